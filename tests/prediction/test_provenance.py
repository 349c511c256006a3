"""What a file says of its origin, read from files that were really signed and really labelled."""

import datetime
import io
import json
import subprocess

import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image, PngImagePlugin

from components.media.ffmpeg import ffmpeg_executable
from components.prediction.examiner import Examiner
from components.prediction.provenance import read_provenance, suggests

CAMERA = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def certificate(common_name, key, issuer_name, issuer_key, authority):
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Pictures Ltd"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    usage = {name: False for name in ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")}
    usage |= {"encipher_only": False, "decipher_only": False, "crl_sign": authority, "key_cert_sign": authority}
    public = issuer_key.public_key()
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not authority, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    if not authority:
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        built = built.add_extension(purposes, critical=False)
    return built.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def sign():
    """Sign a file as a camera or a generator would; the signer is on nobody's list."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Root", root_key, None, root_key, authority=True)
    leaf = certificate("Signer", key, root.subject, root_key, authority=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    info = c2pa.C2paSignerInfo(b"es256", leaf.public_bytes(pem) + root.public_bytes(pem), private, None)

    def signed(path, kind, action):
        actions = {"label": "c2pa.actions", "data": {"actions": [action]}}
        manifest = {
            "claim_generator_info": [{"name": "Test camera", "version": "1"}],
            "title": path.name,
            "format": kind,
            "assertions": [actions],
        }
        content = io.BytesIO()
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest)) as builder:
            builder.sign(signer, kind, io.BytesIO(path.read_bytes()), content)
        path.write_bytes(content.getvalue())
        return path

    return signed


@pytest.fixture
def picture(tmp_path):
    random = np.random.default_rng(3)
    Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "picture.jpg")
    return tmp_path / "picture.jpg"


def test_a_signed_picture_says_who_made_it_and_how(sign, picture):
    sign(picture, "image/jpeg", {"action": "c2pa.created", "digitalSourceType": AI})
    (read,) = read_provenance(picture)
    manifest = read["c2pa"]
    assert manifest["state"] == "valid"  # whole and as signed; not "trusted"
    assert (manifest["signer"], manifest["suggests"]) == ("Pictures Ltd", "ai")
    assert manifest["actions"] == ["c2pa.created"]
    assert manifest["source_types"] == ["trainedAlgorithmicMedia"]
    assert manifest["generator"].startswith("Test camera 1")


def test_a_changed_picture_no_longer_is_as_it_was_signed(sign, picture):
    sign(picture, "image/jpeg", {"action": "c2pa.created", "digitalSourceType": CAMERA})
    content = bytearray(picture.read_bytes())
    content[-40] ^= 0x55  # in the picture's own data
    picture.write_bytes(content)
    (read,) = read_provenance(picture)
    assert read["c2pa"]["state"] == "invalid"
    assert "assertion.dataHash.mismatch" in read["c2pa"]["problems"]
    assert read["c2pa"]["suggests"] == ""


def test_a_signed_video_is_read_like_a_signed_picture(sign, tmp_path):
    clip = tmp_path / "clip.mp4"
    source = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=64x64:r=8:d=1",
        "-pix_fmt",
        "yuv420p",
        "-metadata",
        "comment=Made with AI",
    ]
    subprocess.run([ffmpeg_executable(), "-v", "error", *source, clip], check=True)
    sign(clip, "video/mp4", {"action": "c2pa.created", "digitalSourceType": AI})
    (read,) = read_provenance(clip)
    assert (read["c2pa"]["state"], read["c2pa"]["suggests"]) == ("valid", "ai")
    assert {"where": "container", "field": "comment", "value": "Made with AI", "suggests": "ai"} in read["metadata"]


def test_provenance_stands_beside_the_verdict_and_changes_nothing_in_it(sign, brightness_detector, tmp_path):
    path = tmp_path / "dark.png"
    Image.fromarray(np.full((60, 80, 3), 60, np.uint8)).save(path)
    with Examiner(brightness_detector) as examiner:
        plain = examiner.examine(path)
        sign(path, "image/png", {"action": "c2pa.created", "digitalSourceType": AI})
        signed = examiner.examine(path)
    assert (signed.verdict, signed.probability) == (plain.verdict, plain.probability) == ("real", plain.probability)
    assert plain.provenance["c2pa"] is None
    assert signed.provenance["c2pa"]["suggests"] == "ai"


def test_metadata_of_every_kind_are_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7")
    text.add_itxt("XML:com.adobe.xmp", f'<rdf:Description Iptc4xmpExt:DigitalSourceType="{AI}"/>')
    image = Image.new("RGB", (16, 16))
    image.save(tmp_path / "generated.png", pnginfo=text)
    exif = image.getexif()
    exif[0x010F], exif[0x0131] = "Canon", "Adobe Firefly"
    image.save(tmp_path / "camera.jpg", exif=exif)
    fields = {}
    for name in ("generated.png", "camera.jpg"):
        (read,) = read_provenance(tmp_path / name)
        fields[name] = {(entry["where"], entry["field"]): entry["suggests"] for entry in read["metadata"]}
    assert fields["generated.png"] == {("PNG text", "parameters"): "ai", ("XMP", "DigitalSourceType"): "ai"}
    assert fields["camera.jpg"] == {("EXIF", "Make"): "camera", ("EXIF", "Software"): "ai"}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("Software", "GIMP 2.10", ""),
        ("comment", "a photograph of an imagenary place", ""),
        ("DigitalSourceType", CAMERA, ""),
        ("DigitalSourceType", AI, "ai"),
        ("prompt", "a castle", "ai"),
    ],
)
def test_only_what_names_a_generator_suggests_one(field, value, expected):
    assert suggests(field, value) == expected
