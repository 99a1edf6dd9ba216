"""Softmax attention on chip: the kernels that softmax attention and sliding-window attention share.

    o_i = sum_j p_ij v_j      p_ij = exp(s q_i . k_j - lse_i)      lse_i = log sum_j exp(s q_i . k_j)

over the j that i sees: j <= i where causal, |i - j| < w in a window of w. Tokens that are `dilation` apart see each
other and no others: a dilated sequence is that many interleaved ones, each with its own programs. No score ever leaves
the chip (Dao 2023, arXiv:2307.08691).

`device.py` has the functions that kernels call. `forward.py` has the forward kernel, `forward_pair.py` that of two
blocks of queries a program, `backward_dq.py` and `backward_dk_dv.py` those of the gradients. `shape.py` has the sizes
on which a plan depends. `plan.py` chooses tiles from `tiles.py`, or those that `configs.py` finds tuned. `launch.py`
launches the kernels, `autograd.py` makes them differentiable. `register.py` has what operators register beside their
functions, `reference.py` what their specifications share.
"""
