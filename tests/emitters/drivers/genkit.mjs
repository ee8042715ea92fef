// A flow of Genkit with a retriever, a tool and a model of its own.
import { NodeTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { Document, genkit, z } from 'genkit';

const said = JSON.parse(process.env.SCENARIO);
const exporter = new OTLPTraceExporter({ url: `${process.env.SINK}/v1/traces` });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
provider.register();
const ai = genkit({});
const usage = { inputTokens: 21, outputTokens: 9 };
const turns = [
  [{ toolRequest: { name: said.TOOL, ref: 'call_1', input: { order: said.ORDER } } }],
  [{ text: said.ANSWER }],
];
const supports = { tools: true, multiturn: true, systemRole: true, context: true };
ai.defineModel({ name: `openai/${said.MODEL}`, supports }, async () => {
  await fetch(`${process.env.MODELS}/v1/chat/completions`, { method: 'POST', body: '{"messages": []}' });
  return { message: { role: 'model', content: turns.shift() }, finishReason: 'stop', usage };
});
const lookup = ai.defineTool(
  { name: said.TOOL, description: 'd', inputSchema: z.object({ order: z.string() }), outputSchema: z.any() },
  async () => said.RESULT,
);
const retriever = ai.defineRetriever({ name: 'policies' }, async () => ({
  documents: [Document.fromText(said.DOCUMENT, { id: 'policy' })],
}));
const support = ai.defineFlow(
  { name: 'support', inputSchema: z.string(), outputSchema: z.string() },
  async question => {
    const docs = await ai.retrieve({ retriever, query: question });
    const model = `openai/${said.MODEL}`;
    const answered = await ai.generate({ model, system: said.SYSTEM, prompt: question, tools: [lookup], docs });
    return answered.text;
  },
);
const context = { auth: { uid: said.USER } };
if ((await support(said.QUESTION, { context })) !== said.ANSWER) throw new Error('another answer');
await provider.shutdown();
process.exit(0);
