"""Base of the configuration's sections."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitor.events import checked_topic

Positive = Annotated[float, Field(gt=0)]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]

Topic = Annotated[str, AfterValidator(checked_topic)]

OptionalTopic = Annotated[str, AfterValidator(lambda name: name and checked_topic(name))]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
