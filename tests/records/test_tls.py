"""Records on a server that wants TLS, a certificate of the client and a password, all from a mounted file."""

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from servers import _free_port, _server, ferretdb_binary, ferretdb_command

from components.errors import InputError
from components.records import open_records

pytestmark = pytest.mark.servers
USER, PASSWORD = "writer", "s3cret-of-the-records"


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(place, name, issuer=None):
    """Write NAME.pem, the certificate, and NAME.key.pem, key and certificate; return what signs the next ones."""
    key = ec.generate_private_key(ec.SECP256R1())
    today = datetime.datetime.now(datetime.UTC)
    signer, signed_by = issuer or (key, name)
    built = (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .issuer_name(name_of(signed_by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if issuer:
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        built = built.add_extension(address, critical=False)
    signed = built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / f"{name}.pem").write_bytes(signed)
    (place / f"{name}.key.pem").write_bytes(secret + signed)
    return key, name


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that wants all three, its port, and the directory with the certificates."""
    place = tmp_path_factory.mktemp("tls")
    authority = certificate(place, "authority")
    certificate(place, "server", authority)
    certificate(place, "client", authority)
    certificate(place, "stranger")
    port, secure = _free_port(), _free_port()
    command = ferretdb_command(ferretdb_binary(), place, port)
    files = {"cert": "server.pem", "key": "server.key.pem", "ca": "authority.pem"}
    command += [f"--listen-tls=127.0.0.1:{secure}"]
    command += [f"--listen-tls-{kind}-file={place / name}" for kind, name in files.items()]
    command += ["--test-enable-new-auth", f"--setup-username={USER}", f"--setup-password={PASSWORD}"]
    with _server([*command, "--setup-database=records"], secure, place):
        yield place, secure


def uri(guarded, password=PASSWORD, authority="authority.pem", client="client.key.pem"):
    place, port = guarded
    certificates = f"tlsCAFile={place / authority}&tlsCertificateKeyFile={place / client}"
    return f"mongodb://{USER}:{password}@127.0.0.1:{port}/records?tls=true&{certificates}"


@pytest.fixture
def mounted(home, tmp_path, monkeypatch):
    """The file that holds the address."""
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "3")
    monkeypatch.setenv("MONGODB_URI_FILE", str(tmp_path / "uri"))
    return tmp_path / "uri"


def test_the_records_are_kept_over_tls_with_what_the_mounted_file_says(guarded, mounted):
    mounted.write_text(uri(guarded) + "\n")
    with open_records() as store:
        store.put("runs", {"_id": "a", "type": "pipeline", "outcome": "completed"})
        assert PASSWORD not in store.place
    with open_records() as store:
        assert store.get("runs", "a")["outcome"] == "completed"


@pytest.mark.parametrize(
    "wrong",
    [{"password": "another"}, {"authority": "stranger.pem"}, {"client": "stranger.key.pem"}],
    ids=["password", "authority", "client"],
)
def test_what_does_not_fit_is_one_line_without_the_password(guarded, mounted, wrong):
    mounted.write_text(uri(guarded, **wrong))
    with pytest.raises(InputError, match="MongoDB at") as caught:
        open_records()
    assert PASSWORD not in str(caught.value)
    assert "another" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_tls_the_server_is_not_waited_for_beyond_the_bound(guarded, mounted):
    mounted.write_text(f"mongodb://{USER}:{PASSWORD}@127.0.0.1:{guarded[1]}/records")
    with pytest.raises(InputError, match="MongoDB at") as caught:
        open_records()
    assert PASSWORD not in str(caught.value)
