"""A stock OAuth 2.0 client in Python: Authlib talks to Keyward, PyJWT verifies
what it got. Prints one line of JSON with what it saw; exit code 1 on a refusal.
"""

import json
import os
import sys

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

ISSUER = os.environ["KEYWARD_ISSUER"]
CLIENT_ID = os.environ["KEYWARD_CLIENT_ID"]
CLIENT_SECRET = os.environ["KEYWARD_CLIENT_SECRET"]
RESOURCE = os.environ["KEYWARD_RESOURCE"]
SCOPE = os.environ["KEYWARD_SCOPE"]


def discover(document):
    response = requests.get(f"{ISSUER}/.well-known/{document}", timeout=10)
    response.raise_for_status()
    metadata = response.json()
    assert metadata["issuer"] == ISSUER, metadata
    return metadata


def session(method):
    return OAuth2Session(
        CLIENT_ID,
        CLIENT_SECRET,
        scope=SCOPE,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
    )


def fetch(client, metadata):
    return client.fetch_token(
        metadata["token_endpoint"], grant_type="client_credentials", resource=RESOURCE
    )


def fetch_and_verify(method, metadata):
    with session(method) as client:
        response = fetch(client, metadata)
    token = response["access_token"]
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    verified = jwt.decode_complete(
        token,
        key.key,
        algorithms=["ES256", "EdDSA", "RS256"],
        issuer=ISSUER,
        audience=RESOURCE,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"]},
    )
    assert verified["header"]["typ"] == "at+jwt", verified["header"]
    return {
        "key_state": response.get("key_state"),
        "token_type": response["token_type"],
        "expires_in": response["expires_in"],
        "scope": response["scope"],
        "header": verified["header"],
        "claims": verified["payload"],
    }


def introspect_and_revoke(metadata):
    with session("client_secret_basic") as client:
        token = fetch(client, metadata)["access_token"]

        def introspect():
            return client.introspect_token(
                metadata["introspection_endpoint"], token=token
            ).json()

        before = introspect()
        client.revoke_token(
            metadata["revocation_endpoint"], token=token
        ).raise_for_status()
        return {"before": before, "after": introspect()}


def main():
    seen = {}
    for method, document in [
        ("client_secret_basic", "openid-configuration"),
        ("client_secret_post", "oauth-authorization-server"),
    ]:
        seen[method] = fetch_and_verify(method, discover(document))
    seen["introspection"] = introspect_and_revoke(discover("openid-configuration"))
    return seen


try:
    print(json.dumps(main()))
except OAuthError as error:
    print(json.dumps({"error": error.error, "message": error.description}))
    sys.exit(1)
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    sys.exit(1)
