// A photograph as the square that the network is shown: Pillow's antialiased bilinear filter, in its
// own integers, so that the bits are those of fgvc_jax wherever a browser decodes to the same pixels.

const BITS = 22; // after the point of a weight
const AT_ONCE = 2 ** 22; // pixels that are read at a time, as some telephones have no larger canvas
const SPARE = 2; // pixels that are left for each that is asked for, where a JPEG is read scaled

// Python's: of two integers that are as near, the even one.
function rounded(value) {
  const low = Math.floor(value), rest = value - low;
  return rest === 0.5 ? low + (low & 1) : Math.round(value);
}

// For each of `size` new pixels: from which old one on, and with which weights, `most` places each.
// What is between `first` and `last` of `length` pixels becomes them.
export function weights(length, first, last, size) {
  [first, last] = [Math.fround(first), Math.fround(last)]; // as Pillow has them
  const scale = Math.fround(last - first) / size, wide = Math.max(scale, 1);
  const most = 2 * Math.ceil(wide) + 1;
  const from = new Int32Array(size), count = new Int32Array(size);
  const share = new Int32Array(size * most);
  for (let place = 0; place < size; place++) {
    const centre = first + (place + 0.5) * scale;
    from[place] = Math.max(Math.trunc(centre - wide + 0.5), 0);
    count[place] = Math.min(Math.trunc(centre + wide + 0.5), length) - from[place];
    const exact = Array.from({ length: count[place] }, (_, k) =>
      Math.max(1 - Math.abs((from[place] + k - centre + 0.5) / wide), 0));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    share.set(exact.map(weight => Math.trunc(0.5 + weight / sum * 2 ** BITS)), place * most);
  }
  return { size, most, from, count, share };
}

// Weighted sums of pixels, each of three colours: of `lines` lines, every pixel of which is `step`
// numbers after the one before, and every line `stride` after the one before.
function summed(data, lines, stride, step, { size, most, from, count, share }, put) {
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < size; place++) {
      let red = 2 ** (BITS - 1), green = red, blue = red;
      let i = line * stride + from[place] * step;
      for (let k = place * most, end = k + count[place]; k < end; k++, i += step) {
        const weight = share[k];
        red += data[i] * weight;
        green += data[i + 1] * weight;
        blue += data[i + 2] * weight;
      }
      put(line, place, red >> BITS, green >> BITS, blue >> BITS);
    }
  }
}

// Where of a picture of this size the square comes from, and where in the square it lies:
// fgvc_jax/data/framing.py.
export function framed(width, height, side, fit) {
  const whole = { left: 0, top: 0, right: width, bottom: height };
  const filled = { x: 0, y: 0, across: side, down: side };
  if (fit === "squash" || width === height) return [whole, filled];
  const shorter = Math.min(width, height), longer = Math.max(width, height);
  if (fit === "pad") {
    const short = Math.max(1, rounded(shorter / longer * side));
    const beside = rounded((side - short) * 0.5);
    return [whole, width > height ? { ...filled, y: beside, down: short }
      : { ...filled, x: beside, across: short }];
  }
  const long = Math.trunc(side * longer / shorter), start = rounded((long - side) / 2);
  const first = start / long, last = (start + side) / long;
  return [width > height ? { ...whole, left: first * width, right: last * width }
    : { ...whole, top: first * height, bottom: last * height }, filled];
}

// [left, top, right, bottom] of what is seen of a picture of this size: of its square the middle, so
// large a share of its side: fgvc_jax/data/framing.py.
export function seen(width, height, fit, share) {
  const sides = { squash: [width, height], crop: Array(2).fill(Math.min(width, height)),
    pad: Array(2).fill(Math.max(width, height)) }[fit];
  const [across, down] = [width, height].map((length, n) => Math.min(sides[n] * share, length));
  const left = (width - across) / 2, top = (height - down) / 2;
  return [left, top, left + across, top + down];
}

// How many times smaller a JPEG of this size is read: fgvc_jax/data/images.py.
export function reduction(width, height, side, fit) {
  const decisive = fit === "pad" ? Math.max(width, height) : Math.min(width, height);
  return [8, 4, 2].find(scale => scale <= decisive / (SPARE * side)) ?? 1;
}

// RGBA with blocks of scale x scale pixels as one, their mean, as a JPEG's scaled decoder makes them,
// nearly.
function reduced({ data, width, height }, scale) {
  if (scale === 1) return { data, width, height };
  const across = Math.ceil(width / scale), down = Math.ceil(height / scale);
  const made = new Uint8ClampedArray(4 * across * down); // which rounds
  for (let y = 0, put = 0; y < down; y++) {
    const bottom = Math.min((y + 1) * scale, height);
    for (let x = 0; x < across; x++, put += 4) {
      const right = Math.min((x + 1) * scale, width);
      let red = 0, green = 0, blue = 0;
      for (let j = y * scale; j < bottom; j++) {
        for (let i = 4 * (j * width + x * scale), end = 4 * (j * width + right); i < end; i += 4) {
          red += data[i];
          green += data[i + 1];
          blue += data[i + 2];
        }
      }
      const count = (bottom - y * scale) * (right - x * scale);
      made[put] = red / count;
      made[put + 1] = green / count;
      made[put + 2] = blue / count;
    }
  }
  return { data: made, width: across, height: down };
}

// The square of a picture: RGB, side x side.
// read: (left, top, width, height) -> {data: RGBA, width, height} of that part of the picture.
export function square(read, width, height, { side, fit, fill, scaled }) {
  const scale = scaled ? reduction(width, height, side, fit) : 1;
  const [from, to] = framed(width, height, side, fit);
  const across = Math.ceil(width / scale), down = Math.ceil(height / scale);
  const columns = weights(across, from.left / scale, from.right / scale, to.across);
  const rows = weights(down, from.top / scale, from.bottom / scale, to.down);
  // Pillow 13 begins with the columns, or with the rows where that saves more.
  const tall = down > to.down && down - to.down > 2 * (across - to.across);
  const [one, other] = tall ? [rows, columns] : [columns, rows];
  const [long, lines] = tall ? [height, width] : [width, height];
  const half = new Uint8Array(3 * one.size * (tall ? across : down));
  const band = scale * Math.max(1, Math.floor(AT_ONCE / long / scale));
  for (let first = 0; first < lines; first += band) {
    const count = Math.min(band, lines - first);
    const part = tall ? read(first, 0, count, height) : read(0, first, width, count);
    const { data, width: wide, height: high } = reduced(part, scale);
    const [some, stride, step] = tall ? [wide, 4, 4 * wide] : [high, 4 * wide, 4];
    summed(data, some, stride, step, one, (line, place, red, green, blue) => {
      const i = 3 * ((first / scale + line) * one.size + place);
      half[i] = red;
      half[i + 1] = green;
      half[i + 2] = blue;
    });
  }
  const made = new Uint8Array(3 * side * side);
  for (let i = 0; i < made.length; i++) made[i] = fill[i % 3];
  summed(half, one.size, 3, 3 * one.size, other, (line, place, red, green, blue) => {
    const [x, y] = tall ? [place, line] : [line, place];
    const i = 3 * ((to.y + y) * side + to.x + x);
    made[i] = red;
    made[i + 1] = green;
    made[i + 2] = blue;
  });
  return made;
}
