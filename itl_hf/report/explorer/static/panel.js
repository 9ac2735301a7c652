// A click on any button with data-do in this panel becomes an event for Python. Whatever the button says is only a wish:
// the server checks it.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  trigger("wish", { do: button.dataset.do, kind: button.dataset.kind || "", number: Number(button.dataset.number) });
});
