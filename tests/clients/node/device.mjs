// A stock OAuth 2.0 client on a device: openid-client asks to be signed in and polls until somebody has decided. Prints one
// line of JSON with what the device would show, then one with what came of it; exit code 1 on a refusal.

import * as oauth from "openid-client";

const { KEYWARD_ISSUER, KEYWARD_CLIENT_ID, KEYWARD_SCOPE } = process.env;

try {
  const config = await oauth.discovery(new URL(KEYWARD_ISSUER), KEYWARD_CLIENT_ID, undefined, oauth.None(), {
    algorithm: "oauth2",
    // The tests speak plain HTTP on the loopback interface.
    execute: [oauth.allowInsecureRequests],
  });
  const asked = await oauth.initiateDeviceAuthorization(config, { scope: KEYWARD_SCOPE });
  console.log(JSON.stringify(asked));
  const tokens = await oauth.pollDeviceAuthorizationGrant(config, asked);
  const next = await oauth.refreshTokenGrant(config, tokens.refresh_token);
  console.log(JSON.stringify({ scope: tokens.scope, token_type: tokens.token_type, refreshed: next.scope }));
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? error.name, message: error.message }));
  process.exitCode = 1;
}
