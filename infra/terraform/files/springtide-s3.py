#!/usr/bin/env python3
"""springtide-s3 get KEY FILE | put FILE KEY: one object of the cluster's bucket, with the credentials of this instance.

Every cloud image has Python, for cloud-init; not every one has Amazon's client. Signature version 4, as in
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""

import datetime
import hashlib
import hmac
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

METADATA = os.environ.get("SPRINGTIDE_METADATA", "http://169.254.169.254")
BUCKET = os.environ["SPRINGTIDE_BUCKET"]
REGION = os.environ["SPRINGTIDE_REGION"]
# Of an S3 that is not Amazon's, for tests.
ENDPOINT = os.environ.get("SPRINGTIDE_S3", "")
TRIES = 8


def metadata(path, token):
    request = urllib.request.Request(METADATA + path, headers={"X-aws-ec2-metadata-token": token})
    return urllib.request.urlopen(request, timeout=10).read().decode()


def credentials():
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    request = urllib.request.Request(METADATA + "/latest/api/token", method="PUT", headers=headers)
    token = urllib.request.urlopen(request, timeout=10).read().decode()
    roles = "/latest/meta-data/iam/security-credentials/"
    role = metadata(roles, token).strip()
    return json.loads(metadata(roles + role, token))


def signed(method, key, body):
    """A request, signed with the instance's credentials."""
    keys = credentials()
    endpoint = ENDPOINT or f"https://{BUCKET}.s3.{REGION}.amazonaws.com"
    path = ("/" + BUCKET if ENDPOINT else "") + "/" + urllib.parse.quote(key)
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "host": urllib.parse.urlsplit(endpoint).netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
        "x-amz-security-token": keys["Token"],
    }
    if method == "PUT":
        headers["content-type"] = "application/octet-stream"
        headers["x-amz-server-side-encryption"] = "AES256"
    headers = dict(sorted(headers.items()))
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join([method, path, "", lines, names, digest])
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    secret = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in [day, REGION, "s3", "aws4_request"]:
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    data = body if method == "PUT" else None
    return urllib.request.Request(endpoint + path, data=data, method=method, headers=headers)


def get(key, path):
    with urllib.request.urlopen(signed("GET", key, b""), timeout=60) as reply, open(path, "wb") as file:
        shutil.copyfileobj(reply, file, 1 << 20)


def put(path, key):
    with open(path, "rb") as file:
        urllib.request.urlopen(signed("PUT", key, file.read()), timeout=60).read()


def main():
    wish = {"get": get, "put": put}.get(sys.argv[1] if len(sys.argv) == 4 else "")
    if wish is None:
        sys.exit(__doc__)
    for failed in range(1, TRIES + 1):
        try:
            return wish(*sys.argv[2:])
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            said = error.read().decode(errors="replace")[:500] if isinstance(error, urllib.error.HTTPError) else ""
            final = isinstance(error, urllib.error.HTTPError) and error.code in (400, 403, 404)
            print(f"springtide-s3 {' '.join(sys.argv[1:])}: {error} {said}", file=sys.stderr)
            # A role that was just attached is refused for a while.
            if failed == TRIES or (final and failed >= int(os.environ.get("SPRINGTIDE_TRIES_REFUSED", "4"))):
                sys.exit(1)
            time.sleep(min(2**failed, 20))


if __name__ == "__main__":
    main()
