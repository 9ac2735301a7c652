// Sends the slider's number to the map and the curve without the server. The elements that their scripts listen on are
// inside the elements with these ids.
(rank) => {
  for (const target of document.querySelectorAll("#itl-map, #itl-map *, #itl-curve, #itl-curve *")) target.dispatchEvent(new CustomEvent("itl-rank", { detail: Number(rank) }));
}
