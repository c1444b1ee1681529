// A stock OAuth 2.0 client in Node: openid-client talks to Keyward, jose verifies
// what it got. Prints one line of JSON with what it saw; exit code 1 on a refusal.

import * as jose from "jose";
import * as oauth from "openid-client";

const {
  KEYWARD_ISSUER,
  KEYWARD_CLIENT_ID,
  KEYWARD_CLIENT_SECRET,
  KEYWARD_RESOURCE,
  KEYWARD_SCOPE,
} = process.env;

// The two ways a client may show its secret, and the two documents it may find
// the server by: each once.
const ways = {
  client_secret_basic: { authentication: oauth.ClientSecretBasic, algorithm: "oidc" },
  client_secret_post: { authentication: oauth.ClientSecretPost, algorithm: "oauth2" },
};

function discover({ authentication, algorithm }) {
  return oauth.discovery(
    new URL(KEYWARD_ISSUER),
    KEYWARD_CLIENT_ID,
    undefined,
    authentication(KEYWARD_CLIENT_SECRET),
    // The tests speak plain HTTP on the loopback interface.
    { algorithm, execute: [oauth.allowInsecureRequests] },
  );
}

async function fetchAndVerify(way) {
  const config = await discover(way);
  const response = await oauth.clientCredentialsGrant(config, {
    scope: KEYWARD_SCOPE,
    resource: KEYWARD_RESOURCE,
  });
  const keys = jose.createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri));
  const { payload, protectedHeader } = await jose.jwtVerify(response.access_token, keys, {
    issuer: KEYWARD_ISSUER,
    audience: KEYWARD_RESOURCE,
    typ: "at+jwt",
    requiredClaims: ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"],
  });
  return {
    key_state: response.key_state,
    token_type: response.token_type,
    expires_in: response.expires_in,
    scope: response.scope,
    header: protectedHeader,
    claims: payload,
  };
}

async function introspectAndRevoke() {
  const config = await discover(ways.client_secret_basic);
  const { access_token: token } = await oauth.clientCredentialsGrant(config, {
    scope: KEYWARD_SCOPE,
    resource: KEYWARD_RESOURCE,
  });
  const before = await oauth.tokenIntrospection(config, token);
  await oauth.tokenRevocation(config, token);
  const after = await oauth.tokenIntrospection(config, token);
  return { before, after };
}

// openid-client reports a 401 that carries WWW-Authenticate as the challenge and
// leaves the body, where RFC 6749 §5.2 puts the error code, to the caller.
async function code(error) {
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return (await error.response.json()).error;
  }
  return error.error ?? error.code ?? error.name;
}

try {
  const seen = {};
  for (const [name, way] of Object.entries(ways)) {
    seen[name] = await fetchAndVerify(way);
  }
  seen.introspection = await introspectAndRevoke();
  console.log(JSON.stringify(seen));
} catch (error) {
  console.log(JSON.stringify({ error: await code(error), message: error.message }));
  process.exitCode = 1;
}
