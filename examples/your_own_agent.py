"""An agent that knows nothing of spanledger, observed from outside by one call.

    pip install "spanledger[openai]"
    OPENAI_API_KEY=… spanledger run python examples/your_own_agent.py

Its class stays as it is: `instrument_agent` makes an execution of every call of its steps, and of ``run``, which calls
them. Its request goes through the provider's own SDK: `llm_call` makes a row of it. (With an OpenTelemetry instrumentor
for that SDK installed you need no `llm_call`; with both, the request still counts once.)
"""

import openai

from spanledger.instrumentation import instrument_agent, llm_call


class Greeter:
    """Plans whom to greet, greets, and sees whether it worked."""

    def __init__(self, client: openai.OpenAI, model: str = "gpt-4o-mini") -> None:
        self.client = client
        self.model = model

    def run(self, names: str) -> list[str]:
        greetings = [self.execute(name) for name in self.plan(names)]
        return [greeting for greeting in greetings if self.observe(greeting)]

    def plan(self, names: str) -> list[str]:
        return [name.strip() for name in names.split(",")]

    def execute(self, name: str) -> str:
        prompt = f"Greet {name} in five words."
        with llm_call(self.model, "openai", prompt=prompt) as call:
            completion = self.client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": prompt}]
            )
            call.record(completion)
        return completion.choices[0].message.content or ""

    def observe(self, greeting: str) -> bool:
        return bool(greeting)


if __name__ == "__main__":
    instrument_agent(Greeter)
    with openai.OpenAI() as client:
        print("\n".join(Greeter(client).run("Ada, Grace")))
