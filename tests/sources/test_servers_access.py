"""Who asks a real server: tokens for nginx, certificates for XRootD, as they lie in the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rootfeed as rf
from realservers import Server, missing, running
from rootfeed.errors import AccessError
from samples import File, write

ENTRIES = 1000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "f.root"
    write(path, File(ENTRIES, page=100, format="RNTuple"))
    return path


# --- tokens ---------------------------------------------------------------------------------------


@pytest.fixture
def nginx(file: Path) -> Iterator[Server]:
    if why := missing("nginx"):
        pytest.skip(why)
    refuse = 'if ($http_authorization != "Bearer hushhush42") { return 401; }'
    with running("nginx", lambda _: refuse) as server:
        shutil.copy(file, server.folder)
        yield server


def test_a_token(nginx: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    url = nginx.url("f.root")
    with pytest.raises(AccessError, match="401"):
        rf.open({url: "events"})
    given = {"headers": {"Authorization": "Bearer hushhush42"}}
    assert rf.open({url: "events"}, storage_options=given).num_entries == ENTRIES
    (tmp_path / "token").write_text("hushhush42\n")
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "token"))
    assert len(rf.open(nginx.url("*.root") + ":events").arrays(["id"])["id"]) == ENTRIES


# --- certificates ---------------------------------------------------------------------------------

# An authority, a server and a user, each with a key, and a proxy certificate of the user (RFC 3820).
CERTIFICATES = """
set -e
request() { openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"; }
issue() { openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -set_serial "$3" -days 2 \
    -out "$1.pem" -extfile "$1.ext"; }
usage='keyUsage=critical,digitalSignature,keyEncipherment'
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /O=Test/CN=Authority
mkdir authorities
cp ca.pem "authorities/$(openssl x509 -in ca.pem -noout -hash).0"
for each in localhost user; do
    request $each /O=Test/CN=$each
    printf '%s\\nsubjectAltName=DNS:localhost,IP:127.0.0.1\\n' "$usage" >$each.ext
    issue $each ca 0x2$(printf %s $each | wc -c)
done
request proxy /O=Test/CN=user/CN=12345
printf '%s\\nproxyCertInfo=critical,language:id-ppl-inheritAll\\n' "$usage" >proxy.ext
issue proxy user 12345
cat proxy.pem proxy.key user.pem >x509up
chmod 600 x509up
"""


def certified(work: Path) -> str:
    """Make certificates in a server's folder, and return what tells the server of them."""
    subprocess.run(["bash", "-c", CERTIFICATES], cwd=work, check=True, capture_output=True)
    if os.getuid() == 0:
        shutil.chown(work / "localhost.key", work.stat().st_uid)
    (work / "localhost.key").chmod(0o400)
    return (
        "xrootd.seclib libXrdSec.so\n"
        f"sec.protocol gsi -certdir:{work}/authorities -cert:{work}/localhost.pem "
        f"-key:{work}/localhost.key -crl:0 -gmapopt:10\n"
        "sec.protbind * only gsi\n"
    )


@pytest.fixture
def xrootd(file: Path) -> Iterator[Server]:
    if why := missing("xrootd") or ("" if shutil.which("openssl") else "there is no openssl"):
        pytest.skip(why)
    with running("xrootd", certified) as server:
        shutil.copy(file, server.folder)
        yield server


def test_a_proxy_certificate(xrootd: Server) -> None:
    # In processes of their own: XRootD's client reads the environment when it is loaded.
    script = f"""
import warnings
warnings.simplefilter("ignore")
import rootfeed as rf
print(len(rf.open({{{xrootd.url("f.root")!r}: "events"}}, timeout=10).arrays(["id"])["id"]))
"""
    environment = {
        **os.environ,
        "X509_CERT_DIR": str(xrootd.work / "authorities"),
        "X509_USER_CERT": "/nowhere",
        "X509_USER_KEY": "/nowhere",
        "XrdSecGSICRLCHECK": "0",
        "XrdSecGSISRVNAMES": "*",
    }
    for proxy, told in (("x509up", f"{ENTRIES}\n"), ("nothing", "")):
        found = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, "X509_USER_PROXY": str(xrootd.work / proxy)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout == told, found.stderr
        if not told:
            assert "rootfeed.errors.AccessError: root://" in found.stderr
            assert (
                "Check the access rights, and that your token, certificate or ticket is" in found.stderr
            )
