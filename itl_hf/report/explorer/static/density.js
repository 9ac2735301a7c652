// Returns the density image of points and the function that draws it. Each pixel counts the points on it, and has the
// colour of the last of them that has one. Plain loops over typed arrays draw 200,000 points in a few milliseconds on one
// processor, with or without a graphics card; WebGL takes longer without one.
function densityImage(points) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d"), num = points.length / 2;
  let image = null, pixels, counts, inks;

  function resize(width, height) {
    if (image && image.width === width && image.height === height) return;
    canvas.width = width; canvas.height = height;
    image = context.createImageData(width, height);
    pixels = new Uint32Array(image.data.buffer); // red in the lowest byte, alpha in the highest
    counts = new Uint8Array(width * height); inks = new Uint8Array(width * height);
  }

  // `scale` and `shift` (x, y) map coordinates to pixels; a point is a square of `sides[0]` pixels, one with a colour of
  // `sides[1]`; `codes` has the number of each point's colour in `palette` (0 has none; null if no point has one), and
  // `fades` by how much a point dims what is behind it: without a colour, and with one (0 covers all).
  function draw({ width, height, scale, shift, sides, codes, palette, fades }) {
    resize(width, height);
    counts.fill(0);
    if (codes) inks.fill(0);
    const [scaleX, scaleY] = scale, [plainSide, inkedSide] = sides, shiftX = shift[0] + 0.5, shiftY = shift[1] + 0.5;
    for (let i = 0; i < num; i++) {
      const code = codes === null ? 0 : codes[i], side = code ? inkedSide : plainSide;
      const x = Math.floor(scaleX * points[2 * i] + shiftX - side / 2), y = Math.floor(scaleY * points[2 * i + 1] + shiftY - side / 2);
      if (x < 0 || y < 0 || x + side > width || y + side > height) continue;
      for (let row = y * width + x, last = row + side * width; row < last; row += width) {
        for (let at = row; at < row + side; at++) {
          if (counts[at] < 255) counts[at]++;
          if (code) inks[at] = code;
        }
      }
    }
    paint(codes !== null, palette.map(([red, green, blue]) => red | (green << 8) | (blue << 16)), fades.map(alphas));
  }

  function paint(hasInks, colors, [plain, inked]) {
    for (let at = 0; at < counts.length; at++) {
      const count = counts[at], ink = hasInks ? inks[at] : 0;
      pixels[at] = count === 0 ? 0 : colors[ink] | ((ink ? inked : plain)[count] << 24);
    }
    context.putImageData(image, 0, 0);
  }

  // Opacity of a pixel by the number of its points.
  const alphas = (fade) => Uint8ClampedArray.from({ length: 256 }, (_, count) => 255 * (1 - Math.pow(fade, count)));
  return { canvas, draw };
}
