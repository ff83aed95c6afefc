"""A deterministic automaton over tokens: which tokens a constraint allows next, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.lm.state import PAD


@dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """States that a text goes through, token by token, as tables on the model's device. State 0 is where it begins.

    Tokens that lead alike from every state share a column, so that the tables stay small with large vocabularies.

    Attributes:
        following: the state after a token of each class; the last state is that of texts that no longer satisfy the
            constraint. Int64 `[states, classes]`.
        token_class: the class of each token. Int64 `[vocabulary_size]`.
        distance: the fewest further tokens after which a text may end, EOS not counted; `never` where it may not.
            Int64 `[states]`.
        eos_token_ids: tokens that end a text; they are allowed where the distance is 0.
    """

    following: Tensor
    token_class: Tensor
    distance: Tensor
    eos_token_ids: tuple[int, ...]

    never = 2**62

    @classmethod
    def from_transitions(
        cls,
        transitions: Mapping[int, Mapping[int, int]],
        initial: int,
        accepting: set[int],
        vocabulary_size: int,
        eos_token_ids: Sequence[int],
        device: torch.device,
    ) -> TokenAutomaton:
        """Build the tables from transitions `{state: {token: next state}}`."""
        number = {initial: 0}
        for state, row in transitions.items():
            for name in (state, *row.values()):
                number.setdefault(name, len(number))
        for state in accepting:
            number.setdefault(state, len(number))
        dead = len(number)
        leads: dict[int, list[tuple[int, int]]] = {}
        for state, row in transitions.items():
            for token, after in row.items():
                leads.setdefault(token, []).append((number[state], number[after]))
        classes: dict[tuple[tuple[int, int], ...], int] = {(): 0}
        token_class = torch.zeros(vocabulary_size, dtype=torch.long)
        for token, edges in leads.items():
            token_class[token] = classes.setdefault(tuple(sorted(edges)), len(classes))
        following = torch.full((dead + 1, len(classes)), dead)
        for column, kind in enumerate(classes):
            for state, after in kind:
                following[state, column] = after
        distance = torch.full((dead + 1,), cls.never)
        distance[[number[state] for state in accepting]] = 0
        while True:  # Bellman-Ford, at most once for each state
            nearer = torch.minimum(distance, (distance[following].amin(-1) + 1).clamp(max=cls.never))
            nearer[dead] = cls.never
            if torch.equal(nearer, distance):
                break
            distance = nearer
        return cls(following.to(device), token_class.to(device), distance.to(device), tuple(eos_token_ids))

    def advance(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The states after a further token each; EOS and `PAD` leave a state as it is. Shapes broadcast."""
        states, tokens = torch.broadcast_tensors(states, tokens)
        stays = tokens == PAD
        for eos in self.eos_token_ids:
            stays = stays | (tokens == eos)
        return torch.where(stays, states, self.following[states, self.token_class[tokens.clamp(min=0)]])

    def allowed(self, states: Tensor, remaining: int) -> AllowedTokens:
        """The tokens that may come next, if a text is to end within `remaining` more tokens, EOS included."""
        return AllowedTokens(self, states, remaining)


@dataclass(frozen=True, eq=False)
class AllowedTokens:
    """The tokens that an automaton allows after each text of a batch; the mask is made when asked for.

    Attributes:
        automaton: the automaton.
        states: its state for each text. Int64 `batch_shape`.
        remaining: the tokens that may still be written, EOS included.
    """

    automaton: TokenAutomaton
    states: Tensor
    remaining: int

    def mask(self, rows: Tensor) -> Tensor:
        """Whether each token may follow, for flattened rows of the batch. Bool `[rows, vocabulary_size]`."""
        states = self.states.reshape(-1)[rows]
        automaton = self.automaton
        may_end = automaton.distance[automaton.following[states]] <= self.remaining - 2  # this token, and EOS
        mask = may_end[:, automaton.token_class]
        for eos in automaton.eos_token_ids:
            mask[:, eos] = automaton.distance[states] == 0
        return mask

    def agrees(self, other: AllowedTokens) -> bool:
        """Whether both allow the same, by the same automaton."""
        return (
            self.automaton is other.automaton
            and self.remaining == other.remaining
            and self.states.shape == other.states.shape
            and torch.equal(self.states, other.states)
        )
