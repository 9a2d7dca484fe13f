// The training photographs of a class that the members take for most like one: it is compared with
// all of them, as in fgvc_jax/inference/neighbours.py.

// By its bits, a number of half precision that is finite.
const HALVES = Float64Array.from({ length: 2 ** 16 }, (_, bits) => {
  const power = (bits >> 10) & 31, rest = bits & 1023;
  return (bits >> 15 ? -1 : 1) *
    (power ? (1024 + rest) * 2 ** (power - 25) : rest * 2 ** -24);
});

// What the bytes of neighbours.bin have: {widths: of each member's vector, labels, vectors: one row
// behind the other, picture: row -> the bytes of a file}.
export function kept(bytes, { widths, labels, pictures }) {
  const width = widths.reduce((all, each) => all + each, 0);
  // Browsers, too, are little-endian.
  const vectors = new Uint16Array(bytes.buffer, 0, width * labels.length);
  let end = vectors.byteLength;
  const ends = pictures.map(size => (end += size));
  const picture = row => bytes.subarray(ends[row] - pictures[row], ends[row]);
  return { widths, labels, vectors, picture };
}

// The mean of the members' cosines of a row and what is seen of a photograph.
function similarity({ widths, vectors }, row, seen) {
  let mean = 0, start = 0, place = row * seen.length;
  for (const width of widths) {
    let product = 0, ours = 0, theirs = 0;
    for (const end = start + width; start < end; start++, place++) {
      const one = HALVES[vectors[place]], other = seen[start];
      product += one * other;
      ours += one * one;
      theirs += other * other;
    }
    mean += product / (Math.sqrt(ours * theirs) || 1) / widths.length;
  }
  return mean;
}

// The rows of a class that are most like what is seen of a photograph, at most so many; of equal ones
// the first row comes first.
export function nearest(known, seen, label, most) {
  const rows = [...known.labels.keys()].filter(row => known.labels[row] === label);
  const like = new Map(rows.map(row => [row, similarity(known, row, seen)]));
  return rows.sort((a, b) => like.get(b) - like.get(a) || a - b).slice(0, most);
}
