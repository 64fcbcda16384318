// A canvas of props.side pixels; its PNG is the value. Stamps have no soft edge: every pixel has one of the colours.
// Events: 'draw' while the pen moves, 'done' when it is lifted.
const canvas = element.querySelector('canvas'), under = element.querySelector('img'), spot = element.querySelector('i');
const context = canvas.getContext('2d', { willReadFrequently: true }), side = props.side, past = [];
const size = element.querySelector('input'), limit = at => Math.min(side - 1, Math.max(0, at));
let colour = element.querySelector('button').dataset.colour, filling = false, down = false, last = [side / 2, side / 2], sent = 0;

function use(ink) {
  context.globalCompositeOperation = ink ? 'source-over' : 'destination-out';
  context.fillStyle = ink || '#000000';
}
function clear() { use(props.paper); context.fillRect(0, 0, side, side); }
function remember() { past.push(context.getImageData(0, 0, side, side)); if (past.length > 20) past.shift(); }
function send(done) {
  if (!done && performance.now() - sent < 100) return;
  sent = performance.now();
  props.value = canvas.toDataURL('image/png');
  if (done) trigger('done'); else trigger('draw');
}
function stamp(x, y) {
  const radius = size.value / 2;
  use(colour);
  for (let row = Math.ceil(-radius); row < radius; row++) {
    const half = Math.sqrt(Math.max(0.25, radius * radius - (row + 0.5) ** 2));
    const left = Math.round(x - half);
    context.fillRect(left, Math.round(y) + row, Math.max(1, Math.round(x + half) - left), 1);
  }
}
function line(to) {
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - last[0], to[1] - last[1]) / Math.max(1, size.value / 4)));
  for (let i = 1; i <= steps; i++) stamp(...last.map((at, axis) => at + (to[axis] - at) * i / steps));
  last = to;
}
function fill(x, y) {
  const image = context.getImageData(0, 0, side, side), pixels = new Uint32Array(image.data.buffer);
  use(colour);
  context.fillRect(0, 0, 1, 1);
  const now = new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer)[0];
  const open = [Math.floor(y) * side + Math.floor(x)], before = pixels[open[0]];
  while (before !== now && open.length) {
    const at = open.pop();
    if (pixels[at] !== before) continue;
    pixels[at] = now;
    if (at % side) open.push(at - 1);
    if (at % side < side - 1) open.push(at + 1);
    open.push(at - side, at + side);
  }
  context.putImageData(image, 0, 0);
}
function touch(to) { remember(); last = to; if (filling) fill(...to); else stamp(...to); }
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [limit((event.clientX - box.left) * side / box.width), limit((event.clientY - box.top) * side / box.height)];
}
canvas.onpointerdown = event => { down = true; canvas.setPointerCapture(event.pointerId); touch(place(event)); send(filling); };
canvas.onpointermove = event => { if (down && !filling) { line(place(event)); send(false); } };
canvas.onpointerup = canvas.onpointercancel = () => { if (down && !filling) send(true); down = false; };
canvas.onkeydown = event => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (way) last = last.map((at, axis) => limit(at + way[axis] * side / 64));
  else if (event.key === ' ') { touch(last); send(true); } else return;
  [spot.style.left, spot.style.top] = last.map(at => `${100 * at / side}%`);
  event.preventDefault();
};
element.addEventListener('click', event => {
  const { colour: chosen, tool } = event.target.dataset ?? {};
  if (chosen !== undefined) colour = chosen;
  if (tool === 'Fill') filling = !filling;
  if (tool === 'Undo' && past.length) context.putImageData(past.pop(), 0, 0);
  if (tool === 'Clear') { remember(); clear(); }
  if (tool === 'Undo' || tool === 'Clear') send(true);
  for (const button of element.querySelectorAll('button'))
    button.setAttribute('aria-pressed', button.dataset.colour === colour || (button.dataset.tool === 'Fill' && filling));
});
function load() {
  remember();
  clear();
  if (!props.value) return;
  const image = new Image();
  image.onload = () => { use('#000'); context.imageSmoothingEnabled = false; context.drawImage(image, 0, 0, side, side); };
  image.src = props.value;
}
function lay() { under.src = props.under; under.hidden = !props.under; }
watch('value', load);
watch('under', lay);
load();
lay();
