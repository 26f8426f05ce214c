// Improves pages that work without it: the menu of small screens, and forms that cannot be sent twice.
document.addEventListener("alpine:init", () => {
  Alpine.data("menu", () => ({
    open: false,
    burger: {
      "@click"() { this.open = !this.open; },
      ":class"() { return { "is-active": this.open }; },
      ":aria-expanded"() { return this.open ? "true" : "false"; },
    },
    panel: {
      ":class"() { return { "is-active": this.open }; },
    },
  }));
});

// A button that was pressed waits for its answer. The delay lets the browser send the button's own name and value.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented) return;
  setTimeout(() => {
    button.disabled = true;
    button.classList.add("is-loading");
    button.setAttribute("aria-busy", "true");
  }, 0);
});

// A page that comes back from the browser's memory has its buttons again.
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[aria-busy]")) {
    button.disabled = false;
    button.classList.remove("is-loading");
    button.removeAttribute("aria-busy");
  }
});

// A link to a page that asks before something is done opens the question here, where the page has it.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog]");
  const dialog = link && document.getElementById(link.dataset.dialog);
  if (!dialog || !dialog.showModal || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  dialog.showModal();
});
