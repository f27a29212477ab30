"""How the page looks, in the dark and by day, on a desk and on a phone."""

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
:root { color-scheme: light dark; --cp-page: #f3f5f8; --cp-card: #ffffff; --cp-rule: #d4dae2;
  --cp-ink: #1d2530; --cp-faint: #667180; --cp-blue: #2f7fe0; --cp-orange: #d97a1a;
  --cp-green: #1f9d63; --cp-red: #d33f3f; --cp-fault: #fdecec; --cp-fault-ink: #a32f2f;
  --cp-next: #7a4f00; }
@media (prefers-color-scheme: dark) { :root { --cp-page: #12151a; --cp-card: #1a1f27;
  --cp-rule: #2b323d; --cp-ink: #c9d1db; --cp-faint: #8a95a3; --cp-blue: #58a6ff;
  --cp-orange: #f0a04b; --cp-green: #56d39b; --cp-red: #ff6b6b; --cp-fault: #2a1a1d;
  --cp-fault-ink: #ff8d8d; --cp-next: #f3d9a4; } }
body { background: var(--cp-page) !important; color: var(--cp-ink);
  font: 14px/1.45 system-ui, sans-serif; }
.nicegui-content { padding: 0; gap: 0; align-items: stretch; }
.cp-header { display: flex; align-items: center; gap: 12px; padding: 10px 16px; flex-wrap: wrap;
  background: var(--cp-card); border-bottom: 1px solid var(--cp-rule); position: sticky; top: 0;
  z-index: 5; }
.cp-name { min-width: 190px; max-width: 318px; }
.cp-title { font-size: 16px; font-weight: 600; line-height: 1.2; }
.cp-faint { color: var(--cp-faint); font-size: 12px; }
.cp-recording { display: flex; align-items: center; gap: 6px; min-height: 18px; white-space: pre; }
.cp-recording .cp-faint { overflow: hidden; text-overflow: ellipsis;
  font-variant-numeric: tabular-nums; }
.cp-record { min-width: 138px; }
.cp-actions { display: flex; gap: 12px; flex-wrap: wrap; }
.cp-dot { width: 9px; height: 9px; border-radius: 50%; background: #ff4d4d;
  flex: none; animation: cp-pulse 1.6s ease-in-out infinite; }
@keyframes cp-pulse { 50% { opacity: .35; } }
.cp-mode { min-width: 128px; text-align: center; padding: 6px 14px; border-radius: 6px;
  font-weight: 600; letter-spacing: .04em; color: #fff; white-space: nowrap; }
/* What the last button led to: a line with a place of its own, so that it covers nothing and
   nothing moves when it comes. */
.cp-told { order: 2; flex-basis: 100%; min-height: 1.3em; margin: -6px 0; font-size: 13px;
  line-height: 1.3; color: var(--cp-faint); }
.cp-told.cp-bad { color: var(--cp-red); font-weight: 600; }
.cp-space { flex: 1; }
.cp-button { color: var(--cp-ink) !important; min-height: 36px; border-radius: 6px; }
.cp-stop { color: #fff !important; min-width: 110px;
  min-height: 40px; font-weight: 700; border-radius: 6px; }
.cp-main { display: grid; gap: 12px; padding: 12px 16px;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1fr) 340px; }
.cp-side { display: flex; flex-direction: column; gap: 12px; }
.cp-card { background: var(--cp-card); border: 1px solid var(--cp-rule); border-radius: 8px;
  padding: 12px; }
.cp-plots { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px;
  grid-column: 1 / -1; align-content: start; min-width: 0; }
.cp-plot { width: 100%; min-width: 0; height: 216px; padding: 8px; }
.cp-camera { padding: 0; overflow: hidden; min-height: 60px; background: #000; display: flex;
  flex-direction: column; justify-content: center; }
.cp-camera img { display: block; width: 100%; image-rendering: pixelated; }
.cp-camera img:not([src]) { visibility: hidden; height: 240px; }
.cp-camera div { position: relative; }
.cp-camera canvas { position: absolute; inset: 0; width: 100%; image-rendering: pixelated; }
.cp-rig { padding: 0; position: relative; min-height: 260px; }
.cp-rig canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; }
.cp-rig .cp-faint { position: absolute; left: 12px; bottom: 8px; pointer-events: none; }
.cp-none { padding: 20px; text-align: center; }
.cp-faults { border-color: var(--cp-red); background: var(--cp-fault); }
.cp-fault { font-weight: 600; color: var(--cp-fault-ink); }
.cp-next { color: var(--cp-next); margin-bottom: 4px; }
.cp-numbers { display: grid; grid-template-columns: 76px 1fr; gap: 3px 8px; align-items: baseline; }
.cp-value { font-variant-numeric: tabular-nums; white-space: pre-wrap; font-size: 13px; }
.cp-heading { font-weight: 600; font-size: 13px; }
.cp-target { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; align-items: center; }
.cp-target .cp-heading, .cp-target .cp-button { grid-column: 1 / -1; }
.cp-settings { grid-column: 1 / -1; }
.cp-row { display: flex; gap: 8px; align-items: center; margin-bottom: 8px; flex-wrap: wrap; }
.cp-sliders { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr));
  gap: 2px 28px; }
.cp-slider { display: grid; grid-template-columns: 1fr auto; align-items: baseline; }
.cp-slider .q-slider { grid-column: 1 / -1; }
.cp-key { font-size: 13px; color: var(--cp-faint); }
.cp-shroud { display: none; position: fixed; inset: 0; z-index: 90; align-items: center;
  justify-content: center; flex-direction: column; gap: 8px; background: rgba(18, 21, 26, .72);
  color: #fff; text-align: center; padding: 20px; }
.cp-shroud b { font-size: 34px; letter-spacing: .06em; }
body.cp-dead .cp-shroud { display: flex; }
body.cp-dead .cp-header, body.cp-dead .cp-main { filter: grayscale(1); opacity: .45; }
@media (max-width: 1100px) {
  .cp-main { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .cp-side { grid-column: 1 / -1; }
  .cp-plots { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 760px) {
  .cp-header { gap: 8px; padding: 8px 10px; }
  .cp-name { flex: 1 1 55%; } .cp-record { min-width: 0; }
  .cp-actions { gap: 6px; } .cp-stop { flex: 1; }
  .cp-main { grid-template-columns: minmax(0, 1fr); padding: 8px 10px; }
  .cp-plots { grid-template-columns: minmax(0, 1fr); } }
"""
