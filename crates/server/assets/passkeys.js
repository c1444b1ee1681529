// Makes and uses passkeys, which nothing but a script can. Each form with data-passkey says which of the two ("create" or
// "get") and where its options come from; what the authenticator answers is sent as that form.
"use strict";

// The request that waits in the autofill of the name. Only one may be open, so whoever starts another ends it first.
let waiting = null;

const toBytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
const toText = (bytes) =>
  bytes && btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

class Unreachable extends Error {}

async function offered(form) {
  let answer;
  try {
    answer = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  } catch {
    throw new Unreachable();
  }
  if (answer.redirected) {
    // To sign in once more first.
    location.assign(answer.url);
    return new Promise(() => {});
  }
  if (!answer.ok || !answer.headers.get("content-type")?.startsWith("application/json")) {
    throw new Unreachable();
  }
  const { options, ceremony } = await answer.json();
  options.challenge = toBytes(options.challenge);
  if (options.user) {
    options.user.id = toBytes(options.user.id);
  }
  for (const list of ["excludeCredentials", "allowCredentials"]) {
    options[list] = (options[list] ?? []).map((known) => ({ ...known, id: toBytes(known.id) }));
  }
  return { options, ceremony };
}

function written(credential) {
  const { response } = credential;
  const answer = { clientDataJSON: toText(response.clientDataJSON) };
  if (response.attestationObject) {
    answer.attestationObject = toText(response.attestationObject);
    answer.transports = response.getTransports?.() ?? [];
  } else {
    answer.authenticatorData = toText(response.authenticatorData);
    answer.signature = toText(response.signature);
    answer.userHandle = toText(response.userHandle);
  }
  return JSON.stringify({
    id: credential.id,
    rawId: toText(credential.rawId),
    type: credential.type,
    response: answer,
    clientExtensionResults: {},
  });
}

function send(form, ceremony, credential) {
  form.elements.ceremony.value = ceremony;
  form.elements.credential.value = written(credential);
  form.submit();
}

function say(form, error) {
  const notice = form.querySelector(".notice");
  if (error instanceof Unreachable) {
    notice.textContent = form.dataset.unreachable;
  } else if (error?.name === "NotAllowedError" || error?.name === "AbortError") {
    notice.textContent = form.dataset.cancelled;
  } else {
    notice.textContent = `${form.dataset.failed} ${error?.message ?? error}`;
  }
  notice.hidden = false;
}

async function begin(form) {
  form.querySelector(".notice").hidden = true;
  waiting?.abort();
  waiting = null;
  try {
    const { options, ceremony } = await offered(form);
    const way = form.dataset.passkey;
    send(form, ceremony, await navigator.credentials[way]({ publicKey: options }));
  } catch (error) {
    say(form, error);
    if (form.dataset.passkey === "get") {
      autofill(form);
    }
  }
}

// Waits in the autofill of the name. A challenge is good for five minutes: it is renewed a little before.
async function autofill(form) {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) {
    return;
  }
  const own = new AbortController();
  waiting?.abort();
  waiting = own;
  const renewal = setTimeout(() => autofill(form), 4 * 60 * 1000);
  own.signal.addEventListener("abort", () => clearTimeout(renewal));
  try {
    const { options, ceremony } = await offered(form);
    if (own.signal.aborted) {
      return;
    }
    const mediation = "conditional";
    send(form, ceremony, await navigator.credentials.get({ mediation, signal: own.signal, publicKey: options }));
  } catch (error) {
    // Ended by us, or nobody chose one: there is still the button.
    if (!(error instanceof Unreachable) && error?.name !== "NotAllowedError" && error?.name !== "AbortError") {
      say(form, error);
    }
  }
}

if (window.PublicKeyCredential) {
  for (const hidden of document.querySelectorAll("form[data-passkey], [data-with-passkeys], .or")) {
    hidden.hidden = false;
  }
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      begin(form);
    });
    if (form.dataset.passkey === "get") {
      autofill(form);
    }
  }
}
