"""What more members bring for one's own photographs, as it was measured.

Written by scripts/ledger.py, of the study `own`; a test holds that it says what the ledger does.
"""

MORE_MEMBERS = (
    "Measured on 66 to 67 species of birds with 15 photographs each, instead of one network: two "
    "(--members 2) -0.30 points (-1.57 to +0.97; 2 seeds); two under KT's loss (--transfer.name "
    "orthogonal) -0.60 points (-1.87 to +0.67; 2 seeds). So start with one."
)
