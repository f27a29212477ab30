"""From pictures to measurements: capture at the edge, a pure tracker inside.

``tracker.Tracker(camera).detect(frame, t_ns, arrival_ns, sequence, hint)`` gives a
:class:`~cartpole.messages.Detection`: the pole's angle and pivot in the rig's plane, corrected for
lens and rolling shutter. ``axis.detect_angle(frame)`` knows no rig: it gives the angle of a bright
strip's axis in the picture (against the vertical, counter-clockwise) and a point of it.
"""
