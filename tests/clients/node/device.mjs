// A stock OAuth 2.0 client on a device: `device.mjs openid-client`, or oauth4webapi without it. It asks to be signed in and
// prints what the device would show, waits for a line, polls until somebody has decided, and prints what came of it; exit
// code 1 on a refusal. When the network fails it asks again with the same code, as often as an application might.

import { createInterface } from "node:readline/promises";
import { setTimeout } from "node:timers/promises";
import * as bare from "oauth4webapi";
import * as oauth from "openid-client";

const { KEYWARD_ISSUER, KEYWARD_CLIENT_ID, KEYWARD_SCOPE } = process.env;
const issuer = new URL(KEYWARD_ISSUER);
const MOST_INTERRUPTIONS = 5;

// It polls by itself.
async function openidClient() {
  const config = await oauth.discovery(issuer, KEYWARD_CLIENT_ID, undefined, oauth.None(), {
    algorithm: "oauth2",
    // The tests speak plain HTTP on the loopback interface.
    execute: [oauth.allowInsecureRequests],
  });
  const asked = await oauth.initiateDeviceAuthorization(config, { scope: KEYWARD_SCOPE });
  return {
    asked,
    poll: () => oauth.pollDeviceAuthorizationGrant(config, asked),
    refresh: (token) => oauth.refreshTokenGrant(config, token),
  };
}

// It makes and reads single requests; the loop of RFC 8628 §3.5 is the application's.
async function oauth4webapi() {
  const plain = { [bare.allowInsecureRequests]: true };
  const [client, auth] = [{ client_id: KEYWARD_CLIENT_ID }, bare.None()];
  const found = await bare.discoveryRequest(issuer, { algorithm: "oauth2", ...plain });
  const as = await bare.processDiscoveryResponse(issuer, found);
  const asking = await bare.deviceAuthorizationRequest(as, client, auth, { scope: KEYWARD_SCOPE }, plain);
  const asked = await bare.processDeviceAuthorizationResponse(as, client, asking);
  let interval = asked.interval;
  const poll = async () => {
    for (;;) {
      const response = await bare.deviceCodeGrantRequest(as, client, auth, asked.device_code, plain);
      try {
        return await bare.processDeviceCodeResponse(as, client, response);
      } catch (error) {
        if (!["authorization_pending", "slow_down"].includes(error.error)) throw error;
        if (error.error === "slow_down") interval += 5;
        await setTimeout(interval * 1000);
      }
    }
  };
  const refresh = async (token) =>
    bare.processRefreshTokenResponse(as, client, await bare.refreshTokenGrantRequest(as, client, auth, token, plain));
  return { asked, poll, refresh };
}

let interrupted = 0;

async function outcome(device) {
  for (;;) {
    try {
      return await device.poll();
    } catch (error) {
      // What the server said is final; that nothing was heard is not.
      if (error.error || interrupted === MOST_INTERRUPTIONS) throw error;
      interrupted += 1;
    }
  }
}

const told = createInterface({ input: process.stdin });
try {
  const device = await { "openid-client": openidClient, oauth4webapi }[process.argv[2]]();
  console.log(JSON.stringify(device.asked));
  await told.question("");
  const tokens = await outcome(device);
  const next = await device.refresh(tokens.refresh_token);
  console.log(JSON.stringify({ scope: tokens.scope, refreshed: next.scope, interrupted }));
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? error.name, message: error.message, interrupted }));
  process.exitCode = 1;
} finally {
  told.close();
}
