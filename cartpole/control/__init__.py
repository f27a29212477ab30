"""Control: LQR and its region, energy swing-up, homing, governor, faults, mode machine, core."""
