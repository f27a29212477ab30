"""The fault campaign: random rigs, mismatch, imperfections and faults, held against the truth.

``draw`` says what a seed stands for, ``strikes`` what each fault does and how it must end,
``flight`` flies one draw, ``judge`` says where it ended, ``many`` flies a lot of them and finds the
fewest ingredients that still fail, ``figures`` counts, ``picture`` draws the map.
"""
