"""Drift monitor: has the traffic of an app and model changed? An anytime-valid test per segment.

Each trace gives fourteen numbers: how novel its prompt is (cosine distance to the nearest prompt among the
first of the reference), where it lies along their eight principal components, lengths, refusal, latency,
tokens. Each number is ranked among all earlier ones of its kind since the reference began. As long as the
traffic is exchangeable these conformal p-values are independent and uniform (Vovk), whatever its content.
Bets against that, fixed ones on novelty and one per signal that learns, add up in Shiryaev-Roberts
statistics and are mixed (the e-detector of Shin, Ramdas and Rinaldo), so the mean number of traces to a false
alarm is at least `false_alarm_traces`, however long one watches. After an alarm a new reference is collected:
one shift alarms once.

Pure and deterministic: the same traces give the same statistics, bit for bit, also across a restore.
"""
