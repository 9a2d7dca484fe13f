"""What more members bring for one's own photographs, as it was measured.

Written by scripts/ledger.py, of the study `own`; a test holds that it says what the ledger does.
"""

MORE_MEMBERS = (
    "On 67 species of birds with 15 photographs each: trained by steps, one network has +0.80 "
    "points (+0.33 to +1.27; 4 seeds) over the solved head; more members were not measured."
)
