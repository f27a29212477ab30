"""The few lines that run in the browser."""

from __future__ import annotations

# The space bar stops, whatever has the focus: seen before any field or button sees it.
BROWSER = """
// A page that is shown nothing for a second (its own server gone), or that is told so, says that
// nobody listens: whoever presses Stop then must reach for the supply.
const shroud = document.createElement('div');
shroud.className = 'cp-shroud';
shroud.innerHTML = '<b>NO DAEMON</b><span>Nothing on this page is live, and Stop reaches nobody: ' +
  'use the emergency stop.</span>';
window.addEventListener('DOMContentLoaded', () => document.body.append(shroud));
let heard = performance.now(), alive = true;
function judge() {
  const dead = !alive || performance.now() - heard > 900;
  document.body.classList.toggle('cp-dead', dead);
}
setInterval(judge, 100);
window.cartpole = {
  async show(data) {
    heard = performance.now();
    alive = data.alive;
    judge();
    for (const [id, series] of Object.entries(data.charts)) {
      const plot = getElement(Number(id));
      if (plot && plot.chart) plot.chart.setOption({series: series.map(data => ({data}))});
    }
    const picture = document.getElementById('cp-picture');
    if (picture && data.picture) await this.draw(picture, data.picture);
    if (data.rig) rig.show(data.rig);
    return new Promise(drawn => requestAnimationFrame(() => setTimeout(() => drawn(true))));
  },
  // The first picture gives place and size; later ones are drawn over it. A new src each time would
  // leave every decoded picture in the browser's cache: a gigabyte within two minutes.
  async draw(picture, address) {
    if (!picture.hasAttribute('src')) picture.src = address;
    let canvas = picture.nextElementSibling;
    if (!canvas) picture.after(canvas = document.createElement('canvas'));
    const bytes = Uint8Array.from(atob(address.split(',')[1]), letter => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], {type: 'image/jpeg'}));
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height)
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext('2d').drawImage(bitmap, 0, 0);
    bitmap.close();
  },
};
for (const kind of ['keydown', 'keyup', 'keypress'])
  window.addEventListener(kind, event => {
    if (event.code !== 'Space') return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (kind === 'keydown' && !event.repeat) emitEvent('cartpole_stop');
  }, true);
"""

# Cart, pole and the plan ahead, to scale; on a simulated rig a drag is a push.
RIG = """
const rig = {
  state: null, from: null, to: null,
  ink(name) { return getComputedStyle(document.body).getPropertyValue('--cp-' + name).trim(); },
  // Pixels of a place in metres: 0 is the middle of the track, up is positive.
  place(canvas) {
    const {track, length} = this.state, w = canvas.clientWidth, h = canvas.clientHeight;
    const scale = Math.min(w / (track + 0.24), h / (2.2 * length + 0.06));
    return {scale, x: m => w / 2 + scale * m, y: m => h / 2 - scale * m};
  },
  tip(p, theta) {
    const {length} = this.state;
    return [p + length * Math.sin(theta), -length * Math.cos(theta)];
  },
  show(state) { this.state = state; this.draw(); },
  draw() {
    const canvas = document.getElementById('cp-rig');
    if (!canvas || !this.state) return;
    this.listen(canvas);
    const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio))
      [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(h * ratio)];
    const g = canvas.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, w, h);
    const {x, y, scale} = this.place(canvas), {track, limit, p, theta, target, plan} = this.state;
    const line = (points, width, colour, dash = []) => {
      g.beginPath(); g.setLineDash(dash); g.lineWidth = width; g.strokeStyle = colour;
      points.forEach(([a, b], k) => k ? g.lineTo(x(a), y(b)) : g.moveTo(x(a), y(b)));
      g.stroke(); g.setLineDash([]);
    };
    g.lineCap = 'round';
    line([[-track / 2, 0], [track / 2, 0]], 3, this.ink('rule'));
    for (const side of [-1, 1]) {
      line([[side * track / 2, -0.05], [side * track / 2, 0.05]], 4, this.ink('faint'));
      line([[side * limit, -0.045], [side * limit, 0.045]], 1.2, this.ink('red'), [3, 3]);
    }
    if (target !== null) {
      g.fillStyle = this.ink('faint'); g.beginPath();
      g.moveTo(x(target), y(-0.045)); g.lineTo(x(target) - 6, y(-0.045) + 9);
      g.lineTo(x(target) + 6, y(-0.045) + 9); g.fill();
    }
    if (p === null) {
      g.fillStyle = this.ink('faint'); g.font = '13px system-ui, sans-serif';
      g.textAlign = 'center'; g.fillText('unknown before homing', w / 2, y(0) - 22);
      return;
    }
    if (plan) {
      const n = plan.p_m.length;
      g.globalAlpha = 0.9;
      line(plan.p_m.map((at, k) => this.tip(at, plan.theta_rad[k])), 1, this.ink('orange'), [2, 4]);
      for (let k = n - 1; k > 0; k--) {
        g.globalAlpha = 0.32 * (1 - k / n) + 0.05;
        line([[plan.p_m[k], 0], this.tip(plan.p_m[k], plan.theta_rad[k])], 2.2, this.ink('orange'));
      }
      g.globalAlpha = 1;
    }
    const width = Math.max(26, 0.09 * scale), height = Math.max(14, 0.045 * scale);
    g.fillStyle = this.ink('blue');
    g.beginPath(); g.roundRect(x(p) - width / 2, y(0) - height / 2, width, height, 4); g.fill();
    line([[p, 0], this.tip(p, theta)], 6, this.ink('orange'));
    g.fillStyle = this.ink('ink');
    g.beginPath(); g.arc(x(p), y(0), 3.5, 0, 7); g.fill();
    if (this.from) {
      g.lineWidth = 2; g.strokeStyle = this.ink('green'); g.beginPath();
      g.moveTo(...this.from); g.lineTo(...this.to); g.stroke();
      g.fillStyle = this.ink('green');
      g.beginPath(); g.arc(...this.to, 5, 0, 7); g.fill();
    }
  },
  listen(canvas) {
    canvas.style.cursor = this.state.push ? 'grab' : 'default';
    if (canvas.dataset.listens) return;
    canvas.dataset.listens = 'yes';
    const at = event => [event.offsetX, event.offsetY];
    canvas.addEventListener('pointerdown', event => {
      if (!this.state || !this.state.push || this.state.p === null) return;
      this.from = this.to = at(event);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', event => {
      if (this.from) { this.to = at(event); this.draw(); }
    });
    for (const kind of ['pointerup', 'pointercancel'])
      canvas.addEventListener(kind, event => {
        const {from, to} = this;
        this.from = this.to = null;
        if (from && kind === 'pointerup') this.push(canvas, from, to);
        this.draw();
      });
  },
  // A drag near the cart pushes the cart; any other pushes the pole along its circle.
  push(canvas, from, to) {
    const {x, y, scale} = this.place(canvas), {p, theta, length} = this.state;
    const dx = (to[0] - from[0]) / scale, dy = -(to[1] - from[1]) / scale;
    if (Math.hypot(dx, dy) < 0.02) return;
    const cart = Math.hypot(from[0] - x(p), from[1] - y(0)) < Math.max(24, 0.07 * scale);
    const bound = (value, most) => Math.max(-most, Math.min(most, value));
    emitEvent('cartpole_push', cart ? {cart_m_s: bound(2 * dx, 0.5)} :
      {pole_rad_s: bound(5 * (dx * Math.cos(theta) + dy * Math.sin(theta)) / length, 3)});
  },
};
addEventListener('resize', () => rig.draw());
"""
