// Passkeys (W3C Web Authentication). A form with data-passkey="create" or "get" asks its data-begin for a challenge when it
// is sent, has the browser answer it, and goes on with the answer in its field "credential". Without this script such a
// form stays hidden, and a text beside it names the other ways.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const named = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));

  const create = async (options) => {
    const key = await navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: named(options.excludeCredentials),
      },
    });
    const transports = key.response.getTransports ? key.response.getTransports() : [];
    return [key, { clientDataJSON: text(key.response.clientDataJSON), attestationObject: text(key.response.attestationObject), transports }];
  };

  const get = async (options) => {
    const key = await navigator.credentials.get({
      publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: named(options.allowCredentials) },
    });
    const r = key.response;
    const answer = { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature) };
    if (r.userHandle) answer.userHandle = text(r.userHandle);
    return [key, answer];
  };

  const begin = async (form) => {
    const answer = await fetch(form.dataset.begin, { method: "POST", headers: { Accept: "application/json" } });
    const body = await answer.json();
    if (!body.success) throw new Error(body.error.message);
    return body.data.options;
  };

  const explain = (error) => {
    switch (error.name) {
      case "NotAllowedError": return "Nothing was confirmed in time. Try again, or go on in another way.";
      case "InvalidStateError": return "This device has a passkey for your account already.";
      case "SecurityError": return "Passkeys do not work at this address. In development open the site at localhost.";
      case "Error": return error.message;
      default: return "Your browser could not use a passkey. Go on in another way.";
    }
  };

  const send = async (form) => {
    const options = await begin(form);
    const [key, response] = await (form.dataset.passkey === "create" ? create(options) : get(options));
    form.elements.credential.value = JSON.stringify({
      id: key.id, rawId: text(key.rawId), type: key.type, authenticatorAttachment: key.authenticatorAttachment || undefined,
      clientExtensionResults: key.getClientExtensionResults(), response,
    });
    form.requestSubmit();
  };

  const setUp = (form) => {
    if (!window.PublicKeyCredential) {
      const note = document.createElement("p");
      note.className = "qs-note";
      note.textContent = "This browser has no passkeys. Go on in another way.";
      form.after(note);
      return;
    }
    form.hidden = false;
    const button = form.querySelector("button");
    const message = form.querySelector("[role=alert]");
    form.addEventListener("submit", (event) => {
      if (form.elements.credential.value !== "") return;
      event.preventDefault();
      button.disabled = true;
      message.textContent = "";
      send(form).catch((error) => { message.textContent = explain(error); }).finally(() => { button.disabled = false; });
    });
  };
  // Forms of the page, and those of content that comes later.
  document.querySelectorAll("form[data-passkey]").forEach(setUp);
  document.addEventListener("htmx:load", (event) => {
    if (event.target !== document.body) event.target.querySelectorAll("form[data-passkey][hidden]").forEach(setUp);
  });
  // What was answered is spent; a page that comes back from the browser's memory asks anew.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-passkey]")) form.elements.credential.value = "";
  });
})();
