(() => {
const canvas = document.getElementById('viewer'), data = JSON.parse(document.getElementById('scene').textContent);
const bytes = s => Uint8Array.from(atob(s), c => c.charCodeAt(0));
const P = new Int16Array(bytes(data.points).buffer), C = bytes(data.colors), n = C.length / 3;
const S = data.scale / 32767, M = data.center, ctx = canvas.getContext('2d');
let yaw = 0.5, pitch = 0.45, zoom = 1, pending = false;
function draw() {
  pending = false;
  const dpr = Math.min(window.devicePixelRatio || 1, 2);
  const w = canvas.width = Math.round(canvas.clientWidth * dpr), h = canvas.height = Math.round(canvas.clientHeight * dpr);
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  const f = 1.5 * Math.min(w, h) * zoom, back = 2.2 * data.scale, size = Math.max(1, Math.round(1.4 * dpr));
  const view = (x, y, z) => { const a = cy * x + sy * z, b = -sy * x + cy * z, c = cp * y - sp * b, d = sp * y + cp * b + back;
    return [w / 2 + f * a / d, h / 2 + f * c / d, d]; };
  const image = ctx.createImageData(w, h), px = image.data, depth = new Float32Array(w * h).fill(1e9);
  for (let i = 3; i < px.length; i += 4) px[i] = 255;
  for (let i = 0; i < px.length; i += 4) { px[i] = 13; px[i + 1] = 15; px[i + 2] = 18; }
  for (let k = 0; k < n; k++) {
    const [u, v, d] = view(P[3 * k] * S, P[3 * k + 1] * S, P[3 * k + 2] * S);
    if (d < 0.05 * data.scale) continue;
    const u0 = u | 0, v0 = v | 0;
    if (u0 < 0 || v0 < 0 || u0 + size > w || v0 + size > h) continue;
    for (let b = 0; b < size; b++) for (let a = 0; a < size; a++) {
      const at = (v0 + b) * w + u0 + a;
      if (d < depth[at]) { depth[at] = d; px[4 * at] = C[3 * k]; px[4 * at + 1] = C[3 * k + 1]; px[4 * at + 2] = C[3 * k + 2]; }
    }
  }
  ctx.putImageData(image, 0, 0);
  ctx.lineWidth = 1.8 * dpr; ctx.lineJoin = 'round';
  for (const path of data.paths) {
    ctx.strokeStyle = path.color; ctx.setLineDash(path.dashed ? [6 * dpr, 4 * dpr] : []); ctx.beginPath();
    path.xyz.forEach((p, i) => { const [u, v] = view(p[0] - M[0], p[1] - M[1], p[2] - M[2]); i ? ctx.lineTo(u, v) : ctx.moveTo(u, v); });
    ctx.stroke();
  }
}
const redraw = () => { if (!pending) { pending = true; requestAnimationFrame(draw); } };
const fingers = new Map(); let spread = 0;
canvas.onpointerdown = e => { fingers.set(e.pointerId, [e.clientX, e.clientY]); canvas.setPointerCapture(e.pointerId); spread = 0; };
canvas.onpointerup = canvas.onpointercancel = e => { fingers.delete(e.pointerId); spread = 0; };
canvas.onpointermove = e => {
  const last = fingers.get(e.pointerId); if (!last) return;
  fingers.set(e.pointerId, [e.clientX, e.clientY]);
  if (fingers.size === 2) {
    const [a, b] = [...fingers.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (spread) zoom = Math.min(20, Math.max(0.2, zoom * now / spread));
    spread = now;
  } else { yaw += (e.clientX - last[0]) * 0.008; pitch = Math.min(1.57, Math.max(-1.57, pitch - (e.clientY - last[1]) * 0.008)); }
  redraw();
};
canvas.addEventListener('wheel', e => { e.preventDefault(); zoom = Math.min(20, Math.max(0.2, zoom * Math.exp(-e.deltaY * 0.0012))); redraw(); }, { passive: false });
canvas.ondblclick = () => { yaw = 0.5; pitch = 0.45; zoom = 1; redraw(); };
new ResizeObserver(redraw).observe(canvas); draw();
})();
