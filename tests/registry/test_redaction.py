"""Secrets stay out of texts, however nasty they are."""

import traceback
from urllib.parse import quote

import pytest

from components.redaction import redact, safe_cause

NASTY = ["hunter2", "a@b", "a:b", "a/b", "a?b", "a#b", "a%b", "//x", "@:/?#%", "p@ss:w/o?r#d%41", "12/34", "?q=1&r=2"]
SECRET = "Zq7"


def secret(form):
    return f"{SECRET}{form}{SECRET}"


@pytest.mark.parametrize("form", NASTY)
@pytest.mark.parametrize("written", [str, lambda text: quote(text, safe="")], ids=["raw", "escaped"])
@pytest.mark.parametrize(
    "text",
    [
        "http://someone:{}@host:5000",
        "http://{}@host:5000/path is down; start it",
        "mongodb://us{}er:{}@one:27017,two:27018,[::1]:27019/db?replicaSet=rs",
        "mongodb+srv://u:{}@host/db?tls=true&tlsCertificateKeyFilePassword={}",
        "mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:{},SERVICE:x&w=1",
        "('https://u:{}@host', \"postgresql+psycopg2://u:{}@host/db\")",
        '{"uri": "http://u:{}@host"}',
        "invalid host u:{}@host:27017,two",
    ],
)
def test_no_uri_shows_its_secret(form, written, text):
    shown = redact(text.replace("{}", written(secret(form))))
    assert SECRET not in shown
    assert redact(shown) == shown


@pytest.mark.parametrize("form", [form for form in NASTY if "?q=" not in form])
def test_the_hosts_of_a_uri_stay(form):
    text = f"no answer from mongodb://u:{secret(form)}@one:27017,two:27018/db?ssl=x; start it"
    assert redact(text) == "no answer from mongodb://***@one:27017,two:27018/db?***; start it"


@pytest.mark.parametrize(
    "text",
    [
        "tlsCertificateKeyFilePassword=Zq7",
        "url: /api/2.0/runs?access_token=Zq7&page=1",
        "AWS_SESSION_TOKEN:Zq7/+x=",
        "{'password': 'Zq7 with \\' quote', 'user': 'x'}",
        '{"client_secret":"Zq7@:/"}',
        "connect(api_key='Zq7')",
        "Authorization: Basic Zq7Zq7==",
        "{'Authorization': 'Bearer Zq7.Zq7.Zq7'}",
        "Cookie: session=Zq7; other=Zq7",
        "sent bearer Zq7Zq7Zq7Zq7Zq7",
        "https://bucket/x?X-Goog-Signature=Zq7&X-Amz-Security-Token=Zq7",
        "-----BEGIN PRIVATE KEY-----\nZq7\n-----END PRIVATE KEY-----",
        "password=Zq7&Zq7&next=1",
    ],
)
def test_no_named_value_shows_its_secret(text):
    assert SECRET not in redact(text).replace("' quote", "")


@pytest.mark.parametrize(
    "text",
    [
        "MLflow at http://127.0.0.1:5000/path failed: HTTP 503; set MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        "sqlite:////home/me@work/runs/mlflow.db",
        "gs://bucket/prefix/weights.h5#sha256=0123abcd, models:/ai-vs-real@champion",
        "registry:5000/ai-vs-real-media:0.1.0@sha256:0123abcd",
        "cannot write to /tmp/x: No space left on device; the token is missing: give --token-file FILE",
        "mongodb://one:27017,two:27018/ai_vs_real",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text):
    assert redact(text) == text


def test_what_the_environment_holds_is_masked_wherever_it_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("MONGODB_URI", "mongodb://user:first/se%3Acond@host/?tlsCertificateKeyFilePassword=third")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "fourth word")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    shown = redact(
        f"invalid port 'first'; se:cond, third, fourth word, fourth%20word, fourth+word; firstly, {tmp_path}"
    )
    assert shown == f"invalid port '***'; ***, ***, ***, ***, ***; firstly, {tmp_path}"


def test_a_cause_with_a_secret_is_left_out_of_a_traceback():
    def traced(uri):
        try:
            try:
                raise OSError(f"cannot reach {uri}")
            except OSError as error:
                raise ValueError("plain") from safe_cause(error)
        except ValueError as error:
            return "".join(traceback.format_exception(error))

    assert SECRET not in traced("http://u:Zq7@host")
    assert "cannot reach http://host" in traced("http://host")
