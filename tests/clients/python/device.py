"""MSAL on a device: asks to be signed in and prints what the device would show,
waits for a line, polls until somebody has decided, and prints what came of it;
exit code 1 on a refusal. When the network fails it asks again with the same code.
"""

import json
import os
import sys

import msal
import requests

MOST_INTERRUPTIONS = 5

# MSAL insists on a path in this URL. RFC 3986 section 5.2.4 removes this one.
AUTHORITY = os.environ["KEYWARD_ISSUER"] + "/."
SCOPES = [os.environ["KEYWARD_SCOPE"]]


def say(what):
    print(json.dumps(what), flush=True)


def main():
    application = msal.PublicClientApplication(
        os.environ["KEYWARD_CLIENT_ID"], oidc_authority=AUTHORITY
    )
    flow = application.initiate_device_flow(SCOPES)
    say(flow)
    sys.stdin.readline()
    interrupted = 0
    while True:
        try:
            tokens = application.acquire_token_by_device_flow(flow)
            break
        except requests.ConnectionError:
            if interrupted == MOST_INTERRUPTIONS:
                raise
            interrupted += 1
    if "error" in tokens:
        say({"error": tokens["error"], "interrupted": interrupted})
        return 1
    following = application.acquire_token_by_refresh_token(
        tokens["refresh_token"], SCOPES
    )
    say(
        {
            "scope": tokens["scope"],
            "refreshed": following.get("scope", following),
            "interrupted": interrupted,
        }
    )
    return 0


sys.exit(main())
