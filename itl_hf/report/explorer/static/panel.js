// A click on any button with data-do in this panel is sent to Python as an event. The server checks its values.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  trigger("action", { do: button.dataset.do, kind: button.dataset.kind || "", number: Number(button.dataset.number) });
});
// The column beside the list scrolls by itself; a new card is at its top.
watch("value", () => {
  const side = element.closest("#itl-side");
  if (side && element.querySelector(".itl-open")) side.scrollTop = 0;
});
