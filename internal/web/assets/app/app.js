// Improves pages that work without it: forms are answered in place, cannot be sent twice, and tell where the fault is.

// With Trusted Types (W3C) no text becomes markup or a script but by a policy. HTMX parses whole pages of ours, and asks
// no policy of its own; what it hands over may hold nothing that would run. There is no way to make a script of a text.
if (window.trustedTypes) {
  const unchecked = trustedTypes.createPolicy("quickscale", { createHTML: (html) => html });
  trustedTypes.createPolicy("default", {
    createHTML(html) {
      const page = new DOMParser().parseFromString(unchecked.createHTML(html), "text/html");
      for (const e of page.querySelectorAll("*")) {
        if (e.localName === "script" && !(e.src && e.src.startsWith(location.origin + "/"))) throw new TypeError("a script inside a page");
        for (const a of e.attributes) {
          if (a.name.startsWith("on") || a.name === "srcdoc" || /^[\s\u0000-\u001f]*javascript:/i.test(a.value)) throw new TypeError("a script in an attribute");
        }
      }
      return html;
    },
  });
}

// The menu of small screens. Without scripts it stands open, by noscript.css.
const burger = document.querySelector("[data-burger]");
if (burger) {
  const menu = document.getElementById(burger.getAttribute("aria-controls"));
  const show = (open) => {
    burger.setAttribute("aria-expanded", String(open));
    for (const e of [burger, menu]) e.classList.toggle("is-active", open);
  };
  show(false);
  burger.addEventListener("click", () => show(burger.getAttribute("aria-expanded") === "false"));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || burger.getAttribute("aria-expanded") === "false") return;
    show(false);
    burger.focus();
  });
}

// Forms of the content are sent by HTMX: a page that is answered takes the content's place, under the address of the form,
// so that loading it again sends nothing; a redirect is followed as ever. hx-boost="false" leaves a form alone, such as
// one that is answered with a file.
const improved = {
  boost: "true", "push-url": "false", target: "#main", select: "#main", "select-oob": "#balance", swap: "outerHTML", sync: "this:drop", disinherit: "*",
};
document.addEventListener("htmx:beforeProcessNode", (event) => {
  const form = event.target;
  if (!form.matches("main form[method=post]:not([hx-boost], [hx-post], [data-passkey])")) return;
  for (const [name, value] of Object.entries(improved)) form.setAttribute("hx-" + name, value);
});

// A button that was pressed waits for its answer. The delay lets the browser send the button's own name and value.
const wait = (button) => {
  button.disabled = true;
  button.classList.add("is-loading");
  button.setAttribute("aria-busy", "true");
};
const release = (root) => {
  for (const button of root.querySelectorAll("button[aria-busy]")) {
    button.disabled = false;
    button.classList.remove("is-loading");
    button.removeAttribute("aria-busy");
  }
};
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || (event.defaultPrevented && event.target.getAttribute("hx-boost") !== "true")) return;
  setTimeout(() => wait(button), 0);
});
// Where the answer leads elsewhere the button waits on until that page is here.
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.detail.boosted || event.detail.xhr.getResponseHeader("HX-Redirect")) return;
  setTimeout(() => release(event.detail.elt), 0);
});
// A page that comes back from the browser's memory has its buttons again.
window.addEventListener("pageshow", () => release(document));

// What is no page of ours, such as a proxy's, does not take the content's place.
const unanswered = () => {
  const main = document.getElementById("main");
  let alert = main.querySelector("[data-unanswered]");
  if (!alert) {
    alert = document.createElement("div");
    alert.className = "notification is-light is-danger";
    alert.setAttribute("role", "alert");
    alert.dataset.unanswered = "";
    alert.tabIndex = -1;
    main.querySelector(".container").prepend(alert);
  }
  alert.textContent = "There was no answer. What you entered is still here: try again in a moment.";
  alert.focus();
};
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.boosted || event.detail.serverResponse.includes('id="main"')) return;
  event.detail.shouldSwap = false;
  unanswered();
});
document.addEventListener("htmx:sendError", (event) => { if (event.detail.boosted) unanswered(); });

// The focus goes to what the answer is about: the first field at fault, else the message, else the heading.
document.addEventListener("htmx:afterSettle", (event) => {
  if (!event.detail.boosted || event.target.id !== "main") return;
  const main = event.target;
  const found = main.querySelector("[aria-invalid=true]") || main.querySelector("[role=alert]:not(:empty), [role=status]:not(:empty)") || main.querySelector("h1") || main;
  if (found.tabIndex < 0) found.tabIndex = -1;
  found.focus();
  if (found.getAttribute("aria-invalid") !== "true") window.scrollTo(0, Math.max(0, found.getBoundingClientRect().top + window.scrollY - 96));
});

// A link to a page that asks before something is done opens the question here, where the page has it.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog]");
  const dialog = link && document.getElementById(link.dataset.dialog);
  if (!dialog || !dialog.showModal || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  dialog.showModal();
});
