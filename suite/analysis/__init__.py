"""The analysis of GPU runs: ours against each peer, times against static floors, and where ours loses.

entries   what was timed, one entry per case, with its static profile beside
contests  ratios of times by operator, pass and peer; what a peer refuses is counted, not averaged
floors    how far times are from their floors, and whether floors rank cases as times do
losses    cases in which a peer is faster, the largest loss first, with what the profiles say about them
page      all of it as Markdown
"""
