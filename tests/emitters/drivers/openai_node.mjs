// OpenAI's client for Node, instrumented: `openai_node.mjs LIBRARY`.
import { NodeTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import OpenAI from 'openai';

const said = JSON.parse(process.env.SCENARIO);
const exporter = new OTLPTraceExporter({ url: `${process.env.SINK}/v1/traces` });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
provider.register();
const library = process.argv[2];
const { OpenAIInstrumentation } = await import(
  library === 'openinference' ? '@arizeai/openinference-instrumentation-openai' : '@traceloop/instrumentation-openai'
);
const instrumentation = new OpenAIInstrumentation();
instrumentation.setTracerProvider(provider);
instrumentation.manuallyInstrument(OpenAI);

const client = new OpenAI({ maxRetries: 0 });
const parameters = { type: 'object', properties: { order: { type: 'string' } } };
const tools = [{ type: 'function', function: { name: said.TOOL, description: 'd', parameters } }];
const messages = [
  { role: 'system', content: said.SYSTEM },
  { role: 'user', content: said.QUESTION },
];
const ask = async () => {
  const done = await client.chat.completions.create({ model: said.MODEL, messages, tools, user: said.USER });
  return done.choices[0].message;
};
await provider.getTracer('support-bot').startActiveSpan('support', async span => {
  const first = await ask();
  messages.push(first, { role: 'tool', tool_call_id: first.tool_calls[0].id, content: said.RESULT });
  const second = await ask();
  if (second.content !== said.ANSWER) throw new Error(second.content);
  span.end();
});
await provider.shutdown();
