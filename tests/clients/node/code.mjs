// A stock program in Node that people sign in to: openid-client asks for a code, redeems and refreshes it. Prints the URL to
// open, reads the URL at which the browser came back, prints one line of JSON with what it saw; exit code 1 on a refusal.

import * as readline from "node:readline/promises";
import * as oauth from "openid-client";

const { KEYWARD_ISSUER, KEYWARD_CLIENT_ID, KEYWARD_REDIRECT_URI, KEYWARD_SCOPE } = process.env;

try {
  const config = await oauth.discovery(new URL(KEYWARD_ISSUER), KEYWARD_CLIENT_ID, undefined, oauth.None(), {
    algorithm: "oauth2",
    // The tests speak plain HTTP on the loopback interface.
    execute: [oauth.allowInsecureRequests],
  });
  const pkceCodeVerifier = oauth.randomPKCECodeVerifier();
  const expectedState = oauth.randomState();
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: KEYWARD_REDIRECT_URI,
    scope: KEYWARD_SCOPE,
    state: expectedState,
    code_challenge: await oauth.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
  });
  console.log(url.href);
  const lines = readline.createInterface({ input: process.stdin });
  const back = new URL((await lines[Symbol.asyncIterator]().next()).value);
  lines.close();

  const first = await oauth.authorizationCodeGrant(config, back, { pkceCodeVerifier, expectedState });
  const second = await oauth.refreshTokenGrant(config, first.refresh_token);
  await oauth.tokenRevocation(config, second.refresh_token);
  const refused = await oauth.refreshTokenGrant(config, second.refresh_token).catch((error) => error);
  console.log(
    JSON.stringify({
      scope: first.scope,
      rotated: first.refresh_token !== second.refresh_token,
      renewed: first.access_token !== second.access_token,
      error: refused.error,
    }),
  );
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? error.name, message: error.message }));
  process.exitCode = 1;
}
