// Returns the function that finds the point nearest to the pointer. The points are sorted into the cells of a grid once,
// at the first call, so that a call reads only the cells around the pointer.
function pointGrid(points) {
  const CELLS = 256, SHIFT = 8, num = points.length / 2; // coordinates are from 0 to 65535
  let starts = null, members;
  const cell = (i) => (points[2 * i + 1] >> SHIFT) * CELLS + (points[2 * i] >> SHIFT);

  function sort() {
    starts = new Uint32Array(CELLS * CELLS + 1); members = new Uint32Array(num);
    for (let i = 0; i < num; i++) starts[cell(i) + 1]++;
    for (let k = 0; k < CELLS * CELLS; k++) starts[k + 1] += starts[k];
    const ends = starts.slice();
    for (let i = 0; i < num; i++) members[ends[cell(i)]++] = i;
  }

  // `position` is (x, y) in coordinates of the points, `scale` the pixels of one step along each axis. Returns the number
  // of the nearest point within `reach` pixels, the first of several that are as near, and its distance; or null.
  return function nearest(position, scale, reach) {
    if (starts === null) sort();
    const bounds = (axis, sign) => Math.min(CELLS - 1, Math.max(0, Math.floor(position[axis] + (sign * reach) / scale[axis]) >> SHIFT));
    const [firstX, lastX, firstY, lastY] = [bounds(0, -1), bounds(0, 1), bounds(1, -1), bounds(1, 1)];
    let number = -1, smallest = reach * reach;
    for (let y = firstY; y <= lastY; y++) {
      for (let k = starts[y * CELLS + firstX]; k < starts[y * CELLS + lastX + 1]; k++) {
        const i = members[k], dx = (points[2 * i] - position[0]) * scale[0], dy = (points[2 * i + 1] - position[1]) * scale[1], square = dx * dx + dy * dy;
        if (square < smallest || (square === smallest && (number < 0 || i < number))) { smallest = square; number = i; }
      }
    }
    return number < 0 ? null : { number, distance: Math.sqrt(smallest) };
  };
}
