"""What more members bring for one's own photographs, as it was measured.

Written by scripts/ledger.py, of the study `own`; a test holds that it says what the ledger does.
"""

MORE_MEMBERS = (
    "On each of 3 sets of 66 to 67 species of birds with 15 photographs each: trained by steps, "
    "one network has +0.80, +0.68, +1.35 points (4 seeds each) over the solved head; with a tenth "
    "of them set aside to calibrate it, as it is by --objective ce, -1.55, -0.55, -0.29 points (4 "
    "seeds each); two of them that know nothing of each other (--members 2) -0.30 points (-1.57 "
    "to +0.97; 2 seeds) over one; two under KT's loss (--transfer.name orthogonal) -0.60 points "
    "(-1.87 to +0.67; 2 seeds) over one."
)
