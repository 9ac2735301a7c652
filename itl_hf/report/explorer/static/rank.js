// The slider's number goes straight to both drawings. The element that their scripts hold lies inside the one with the id.
(rank) => {
  for (const one of document.querySelectorAll("#itl-map, #itl-map *, #itl-curve, #itl-curve *")) one.dispatchEvent(new CustomEvent("itl-rank", { detail: Number(rank) }));
}
