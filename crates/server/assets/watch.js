// Looks whether a device that was let in has been signed in: the server tells when its state is another than the page shows,
// and then the page is read anew. Without this there is a link.
"use strict";

const shown = document.querySelector("[data-state]").dataset.state;
const states = new EventSource("/device/status");

states.addEventListener("state", (event) => {
  if (event.data !== shown) {
    states.close();
    location.reload();
  }
});
