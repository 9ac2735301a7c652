// A click on any button with data-do in this panel is sent to Python as an event. The server checks its values.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  trigger("action", { do: button.dataset.do, kind: button.dataset.kind || "", number: Number(button.dataset.number) });
});
