"""Zero inflation: Pyro's mixture around `NegativeBinomial`."""

from __future__ import annotations

import torch
from pyro.distributions import ZeroInflatedDistribution
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.types import _size

from .negative_binomial import NegativeBinomial


class ZeroInflatedNegativeBinomial(ZeroInflatedDistribution):
    r"""A negative binomial whose draw is set to 0 with probability g = sigmoid(gate_logits).

        p(0) = g + (1 - g) NB(0),   p(x) = (1 - g) NB(x) for x > 0,   mean (1 - g) m

    It becomes `NegativeBinomial(log_mean, log_dispersion)` as gate_logits falls. Sampling and
    moments are Pyro's; `log_prob` is accurate also where p(0) is near 1.

    Parameters
    ----------
    log_mean, log_dispersion
        Those of the negative binomial, before zero inflation.
    gate_logits
        Log odds of an additional zero. All three broadcast; the event shape is ().

    Examples
    --------
    >>> import torch
    >>> even = torch.tensor(0.0)
    >>> d = ZeroInflatedNegativeBinomial(torch.tensor(10.0).log(), torch.tensor(2.0).log(), even)
    >>> d.log_prob(torch.tensor(0.0)).exp()  # 1/2 + 1/2 (2 / 12)^2
    tensor(0.5139)
    """

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor, gate_logits: Tensor) -> None:
        base = NegativeBinomial(log_mean, log_dispersion)
        super().__init__(base, gate_logits=gate_logits)

    def expand(self, batch_shape: _size, _instance: object = None) -> ZeroInflatedNegativeBinomial:
        new = self._get_checked_instance(ZeroInflatedNegativeBinomial, _instance)
        base, gate_logits = self.base_dist.expand(batch_shape), self.gate_logits
        ZeroInflatedDistribution.__init__(
            new, base, gate_logits=gate_logits.expand(batch_shape), validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        gate_logits, value = torch.broadcast_tensors(self.gate_logits, value)
        base, kept = self.base_dist.log_prob(value), logsigmoid(-gate_logits)
        rare = torch.logaddexp(logsigmoid(gate_logits), kept + base)
        usual = torch.log1p(kept.exp() * torch.expm1(base.clamp(min=-1.0)))
        at_zero = torch.where(base > -1.0, usual, rare)
        return torch.where(value == 0, at_zero, kept + base)
