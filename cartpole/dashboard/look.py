"""How the page looks, and the few lines that run in the browser."""

from __future__ import annotations

STOP_COLOUR = "#c73737"
MODE_COLOURS = {
    "STARTING": "#3a4250",
    "NO DAEMON": "#3a4250",
    "DISARMED": "#3a4250",
    "HOMING": "#7a5a1e",
    "READY": "#5d4a9c",
    "SWING_UP": "#1f5fa8",
    "BALANCE": "#1f7a4d",
    "LQR_FALLBACK": "#8a6a12",
    "SAFE_STOP": "#a4541c",
    "FAULT": "#a32f2f",
}

CSS = """
body { background: #12151a; color: #c9d1db; font: 14px/1.45 system-ui, sans-serif; }
.nicegui-content { padding: 0; gap: 0; align-items: stretch; }
.cp-header { display: flex; align-items: center; gap: 12px; padding: 10px 16px; flex-wrap: wrap;
  background: #1a1f27; border-bottom: 1px solid #2b323d; position: sticky; top: 0; z-index: 5; }
.cp-name { width: 318px; }
.cp-title { font-size: 16px; font-weight: 600; line-height: 1.2; }
.cp-faint { color: #7d8896; font-size: 12px; }
.cp-recording { display: flex; align-items: center; gap: 6px; min-height: 18px; white-space: pre; }
.cp-recording .cp-faint { overflow: hidden; text-overflow: ellipsis;
  font-variant-numeric: tabular-nums; }
.cp-record { min-width: 138px; }
.cp-actions { display: flex; gap: 12px; flex-wrap: wrap; }
.cp-dot { width: 9px; height: 9px; border-radius: 50%; background: #ff4d4d;
  flex: none; animation: cp-pulse 1.6s ease-in-out infinite; }
@keyframes cp-pulse { 50% { opacity: .35; } }
.cp-mode { min-width: 128px; text-align: center; padding: 6px 14px; border-radius: 6px;
  font-weight: 600; letter-spacing: .04em; color: #fff; }
.cp-space { flex: 1; }
.cp-button { color: #c9d1db !important; min-height: 36px; border-radius: 6px; }
.cp-stop { color: #fff !important; min-width: 110px;
  min-height: 40px; font-weight: 700; border-radius: 6px; }
.cp-main { display: grid; grid-template-columns: 340px minmax(0, 1fr); gap: 12px;
  padding: 12px 16px; }
.cp-side { display: flex; flex-direction: column; gap: 12px; }
.cp-card { background: #1a1f27; border: 1px solid #2b323d; border-radius: 8px; padding: 12px; }
.cp-plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px;
  align-content: start; min-width: 0; }
.cp-plot { width: 100%; min-width: 0; height: 236px; padding: 8px; }
.cp-camera { padding: 0; overflow: hidden; min-height: 60px; background: #000; }
.cp-camera img { display: block; width: 100%; image-rendering: pixelated; }
.cp-camera img:not([src]) { visibility: hidden; height: 240px; }
.cp-camera div { position: relative; }
.cp-camera canvas { position: absolute; inset: 0; width: 100%; image-rendering: pixelated; }
.cp-none { padding: 20px; text-align: center; }
.cp-faults { border-color: #a32f2f; background: #2a1a1d; }
.cp-fault { font-weight: 600; color: #ff8d8d; }
.cp-next { color: #f3d9a4; margin-bottom: 4px; }
.cp-numbers { display: grid; grid-template-columns: 76px 1fr; gap: 3px 8px; align-items: baseline; }
.cp-value { font-variant-numeric: tabular-nums; white-space: pre-wrap; font-size: 13px; }
.cp-heading { font-weight: 600; font-size: 13px; }
.cp-target { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; align-items: center; }
.cp-target .cp-heading, .cp-target .cp-button { grid-column: 1 / -1; }
.cp-settings { grid-column: 1 / -1; }
.cp-row { display: flex; gap: 8px; align-items: center; margin-bottom: 8px; }
.cp-sliders { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr));
  gap: 2px 28px; }
.cp-slider { display: grid; grid-template-columns: 1fr auto; align-items: baseline; }
.cp-slider .q-slider { grid-column: 1 / -1; }
.cp-key { font-size: 13px; color: #a9b3c0; }
.cp-shroud { display: none; position: fixed; inset: 0; z-index: 90; align-items: center;
  justify-content: center; flex-direction: column; gap: 8px; background: rgba(18, 21, 26, .72);
  color: #fff; text-align: center; padding: 20px; }
.cp-shroud b { font-size: 34px; letter-spacing: .06em; }
body.cp-dead .cp-shroud { display: flex; }
body.cp-dead .cp-header, body.cp-dead .cp-main { filter: grayscale(1); opacity: .45; }
.cp-header { z-index: 5; }
@media (max-width: 1280px) { .cp-actions { order: 1; flex-basis: 100%; } }
@media (max-width: 1100px) { .cp-plots { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 760px) { .cp-main { grid-template-columns: 1fr; } }
"""

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
