"""From pictures to measurements: capture at the edge, a pure tracker inside.

``tracker.Tracker(camera).detect(frame, t_ns, arrival_ns, sequence, hint)`` gives a
:class:`~cartpole.messages.Detection`: the pole's angle, pivot and rate in the rig's plane, with
their covariance, corrected for lens and rolling shutter.
"""
