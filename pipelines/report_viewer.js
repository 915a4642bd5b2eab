(() => {
const canvas = document.getElementById('viewer'), data = JSON.parse(document.getElementById('scene').textContent);
const bytes = s => Uint8Array.from(atob(s), c => c.charCodeAt(0));
const S = data.scale / 32767, M = data.center, ctx = canvas.getContext('2d');
const cloud = set => set && { xyz: new Int16Array(bytes(set.xyz).buffer), rgb: bytes(set.rgb) };
const points = cloud(data.points), mesh = cloud(data.mesh);
if (mesh) {
  const raw = bytes(data.mesh.triangles).buffer;
  mesh.triangles = data.mesh.wide ? new Uint32Array(raw) : new Uint16Array(raw);
  mesh.normals = normals(mesh.xyz, mesh.triangles);
  mesh.projected = new Float32Array(mesh.xyz.length);
  mesh.light = new Float32Array(mesh.xyz.length / 3);
}
const START = { yaw: 0.5, pitch: 0.45, zoom: 1, x: 0, y: 0 };
let at = { ...START }, shown = mesh ? 'mesh' : 'points', pending = false, rough = false, calm = 0;
let w = 0, h = 0, image, pixels, depth;

function normals(xyz, triangles) {
  const out = new Float32Array(xyz.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const [a, b, c] = [3 * triangles[t], 3 * triangles[t + 1], 3 * triangles[t + 2]];
    const ux = xyz[b] - xyz[a], uy = xyz[b + 1] - xyz[a + 1], uz = xyz[b + 2] - xyz[a + 2];
    const vx = xyz[c] - xyz[a], vy = xyz[c + 1] - xyz[a + 1], vz = xyz[c + 2] - xyz[a + 2];
    const n = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const k of [a, b, c]) for (let i = 0; i < 3; i++) out[k + i] += n[i];
  }
  for (let k = 0; k < out.length; k += 3) {
    const long = Math.hypot(out[k], out[k + 1], out[k + 2]) || 1;
    for (let i = 0; i < 3; i++) out[k + i] /= long;
  }
  return out;
}

function resize(ratio) {
  const wide = Math.max(1, Math.round(canvas.clientWidth * ratio)), high = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (wide === w && high === h) return;
  w = canvas.width = wide; h = canvas.height = high;
  image = ctx.createImageData(w, h); pixels = new Uint32Array(image.data.buffer); depth = new Float32Array(w * h);
}

function draw() {
  pending = false;
  const ratio = rough ? 1 : Math.min(window.devicePixelRatio || 1, 2);
  resize(ratio);
  const cy = Math.cos(at.yaw), sy = Math.sin(at.yaw), cp = Math.cos(at.pitch), sp = Math.sin(at.pitch);
  const f = 1.7 * Math.min(w, h) * at.zoom, back = 2.2 * data.scale, near = 0.05 * data.scale;
  const u0 = w / 2 + at.x * w, v0 = h / 2 + at.y * h;
  const view = { R: [cy, 0, sy, sp * sy, cp, -sp * cy, -cp * sy, sp, cp * cy], f, back, near, u0, v0 };
  pixels.fill(0xff120f0d); depth.fill(0);
  if (shown === 'mesh') fillMesh(view); else if (points) fillPoints(view, Math.max(1, Math.round(1.4 * ratio)));
  ctx.putImageData(image, 0, 0);
  drawPaths(view, ratio);
}

function fillPoints({ R, f, back, near, u0, v0 }, size) {
  const P = points.xyz, C = points.rgb;
  for (let k = 0; k < P.length; k += 3) {
    const x = P[k] * S, y = P[k + 1] * S, z = P[k + 2] * S, d = R[6] * x + R[7] * y + R[8] * z + back;
    if (d < near) continue;
    const u = (u0 + f * (R[0] * x + R[2] * z) / d) | 0, v = (v0 + f * (R[3] * x + R[4] * y + R[5] * z) / d) | 0;
    if (u < 0 || v < 0 || u + size > w || v + size > h) continue;
    const color = 0xff000000 | C[k + 2] << 16 | C[k + 1] << 8 | C[k];
    for (let b = 0; b < size; b++) for (let a = 0; a < size; a++) {
      const i = (v + b) * w + u + a;
      if (1 / d > depth[i]) { depth[i] = 1 / d; pixels[i] = color; }
    }
  }
}

function fillMesh({ R, f, back, near, u0, v0 }) {
  const P = mesh.xyz, C = mesh.rgb, N = mesh.normals, Q = mesh.projected, L = mesh.light, T = mesh.triangles;
  for (let k = 0, n = 0; k < P.length; k += 3, n++) {
    const x = P[k] * S, y = P[k + 1] * S, z = P[k + 2] * S, d = R[6] * x + R[7] * y + R[8] * z + back;
    Q[k] = u0 + f * (R[0] * x + R[2] * z) / d; Q[k + 1] = v0 + f * (R[3] * x + R[4] * y + R[5] * z) / d;
    Q[k + 2] = d < near ? 0 : 1 / d;
    L[n] = 0.72 + 0.28 * Math.abs(R[6] * N[k] + R[7] * N[k + 1] + R[8] * N[k + 2]);
  }
  for (let t = 0; t < T.length; t += 3) {
    const i = T[t], j = T[t + 1], k = T[t + 2], a = 3 * i, b = 3 * j, c = 3 * k;
    const qa = Q[a + 2], qb = Q[b + 2], qc = Q[c + 2];
    if (!qa || !qb || !qc) continue;
    const ax = Q[a], ay = Q[a + 1], bx = Q[b], by = Q[b + 1], cx = Q[c], cy = Q[c + 1];
    const area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
    if (area >= 0) continue;  // seen from behind
    const left = Math.max(0, Math.ceil(Math.min(ax, bx, cx))), right = Math.min(w - 1, Math.floor(Math.max(ax, bx, cx)));
    const top = Math.max(0, Math.ceil(Math.min(ay, by, cy))), below = Math.min(h - 1, Math.floor(Math.max(ay, by, cy)));
    const la = L[i], lb = L[j], lc = L[k];
    for (let v = top; v <= below; v++) for (let u = left; u <= right; u++) {
      const p = ((bx - u) * (cy - v) - (by - v) * (cx - u)) / area, q = ((cx - u) * (ay - v) - (cy - v) * (ax - u)) / area;
      const r = 1 - p - q;
      if (p < 0 || q < 0 || r < 0) continue;
      const close = p * qa + q * qb + r * qc, to = v * w + u;
      if (close <= depth[to]) continue;
      depth[to] = close;
      const pa = p * la, qb2 = q * lb, rc = r * lc;
      pixels[to] = 0xff000000 | (pa * C[a + 2] + qb2 * C[b + 2] + rc * C[c + 2]) << 16
        | (pa * C[a + 1] + qb2 * C[b + 1] + rc * C[c + 1]) << 8 | (pa * C[a] + qb2 * C[b] + rc * C[c]);
    }
  }
}

function drawPaths({ R, f, back, near, u0, v0 }, ratio) {
  ctx.lineWidth = 1.8 * ratio; ctx.lineJoin = 'round';
  for (const path of data.paths) {
    ctx.strokeStyle = path.color; ctx.setLineDash(path.dashed ? [6 * ratio, 4 * ratio] : []); ctx.beginPath();
    let drawn = false;
    for (const p of path.xyz) {
      const x = p[0] - M[0], y = p[1] - M[1], z = p[2] - M[2], d = R[6] * x + R[7] * y + R[8] * z + back;
      if (d < near) { drawn = false; continue; }
      const u = u0 + f * (R[0] * x + R[2] * z) / d, v = v0 + f * (R[3] * x + R[4] * y + R[5] * z) / d;
      if (drawn) ctx.lineTo(u, v); else ctx.moveTo(u, v);
      drawn = true;
    }
    ctx.stroke();
  }
}

const redraw = () => { if (!pending) { pending = true; requestAnimationFrame(draw); } };
// While it moves it is drawn at one pixel per CSS pixel; once it rests, as finely as the screen can show.
const moved = () => { rough = true; redraw(); clearTimeout(calm); calm = setTimeout(() => { rough = false; redraw(); }, 180); };
const turn = (dx, dy) => { at.yaw += dx; at.pitch = Math.min(1.57, Math.max(-1.57, at.pitch - dy)); moved(); };
const zoom = factor => { at.zoom = Math.min(30, Math.max(0.2, at.zoom * factor)); moved(); };
const shift = (dx, dy) => { at.x += dx / canvas.clientWidth; at.y += dy / canvas.clientHeight; moved(); };
const fingers = new Map(); let spread = 0, middle = [0, 0];
canvas.onpointerdown = e => {
  fingers.set(e.pointerId, [e.clientX, e.clientY]); spread = 0;
  try { canvas.setPointerCapture(e.pointerId); } catch { /* the pointer is gone already */ }
};
canvas.onpointerup = canvas.onpointercancel = e => { fingers.delete(e.pointerId); spread = 0; };
canvas.onpointermove = e => {
  const last = fingers.get(e.pointerId); if (!last) return;
  const dx = e.clientX - last[0], dy = e.clientY - last[1];
  fingers.set(e.pointerId, [e.clientX, e.clientY]);
  if (fingers.size === 2) {
    const [a, b] = [...fingers.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]), mid = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    if (spread) { zoom(now / spread); shift(mid[0] - middle[0], mid[1] - middle[1]); }
    spread = now; middle = mid;
  } else if (e.shiftKey || e.buttons === 2) shift(dx, dy);
  else turn(dx * 0.008, dy * 0.008);
};
canvas.oncontextmenu = e => e.preventDefault();
canvas.addEventListener('wheel', e => { e.preventDefault(); zoom(Math.exp(-e.deltaY * 0.0012)); }, { passive: false });
canvas.onkeydown = e => {
  const act = { ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, -0.1), ArrowDown: () => turn(0, 0.1),
    '+': () => zoom(1.15), '-': () => zoom(1 / 1.15), '0': () => { at = { ...START }; moved(); } }[e.key];
  if (act) { e.preventDefault(); act(); }
};
canvas.ondblclick = () => { at = { ...START }; moved(); };
const buttons = [...document.querySelectorAll('.viewer button')];
for (const button of buttons) button.onclick = () => {
  shown = button.value; redraw();
  for (const other of buttons) other.setAttribute('aria-pressed', other === button);
};
new ResizeObserver(redraw).observe(canvas); draw();
})();
