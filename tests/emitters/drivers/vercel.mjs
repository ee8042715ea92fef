// The AI SDK of Vercel with its telemetry on, and its own test models: `vercel.mjs MAJOR`.
import { NodeTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import * as ai from 'ai';
import * as tests from 'ai/test';
import { z } from 'zod';

const major = Number(process.argv[2]);
const said = JSON.parse(process.env.SCENARIO);
const exporter = new OTLPTraceExporter({ url: `${process.env.SINK}/v1/traces` });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
provider.register();
if (major === 7) {
  const { OpenTelemetry } = await import('@ai-sdk/otel');
  ai.registerTelemetry(new OpenTelemetry({ runtimeContext: true }));
}

const Model =
  tests.MockLanguageModelV4 ?? tests.MockLanguageModelV3 ?? tests.MockLanguageModelV2 ?? tests.MockLanguageModelV1;
const usage =
  major === 4
    ? { promptTokens: 21, completionTokens: 9 }
    : major === 5
      ? { inputTokens: 21, outputTokens: 9, totalTokens: 30 }
      : { inputTokens: { total: 21 }, outputTokens: { total: 9 } };
const finished = reason => (major >= 6 ? { unified: reason, raw: reason } : reason);
const call = { toolCallId: 'call_1', toolName: said.TOOL };
const input = JSON.stringify({ order: said.ORDER });
const raw = { rawCall: { rawPrompt: null, rawSettings: {} } };
const turns =
  major === 4
    ? [
        { ...raw, toolCalls: [{ toolCallType: 'function', ...call, args: input }], finishReason: 'tool-calls', usage },
        { ...raw, text: said.ANSWER, finishReason: 'stop', usage },
      ]
    : [
        { content: [{ type: 'tool-call', ...call, input }], finishReason: finished('tool-calls'), usage, warnings: [] },
        { content: [{ type: 'text', text: said.ANSWER }], finishReason: finished('stop'), usage, warnings: [] },
      ];
const model = new Model({
  provider: 'openai.chat',
  modelId: said.MODEL,
  doGenerate: async () => {
    await fetch(`${process.env.MODELS}/v1/chat/completions`, { method: 'POST', body: '{"messages": []}' });
    return turns.shift();
  },
});
const schema = z.object({ order: z.string() });
const lookup = ai.tool({
  description: 'Tell where an order is.',
  [major === 4 ? 'parameters' : 'inputSchema']: schema,
  execute: async () => said.RESULT,
});
const about = { userId: said.USER, sessionId: said.CONVERSATION };
const telemetry =
  major === 7
    ? { telemetry: { functionId: 'support' }, runtimeContext: about }
    : { experimental_telemetry: { isEnabled: true, functionId: 'support', metadata: about } };
const { text } = await ai.generateText({
  model,
  [major === 7 ? 'instructions' : 'system']: said.SYSTEM,
  prompt: said.QUESTION,
  tools: { [said.TOOL]: lookup },
  ...(major === 4 ? { maxSteps: 3 } : { stopWhen: ({ steps }) => steps.length >= 3 }),
  ...telemetry,
});
if (text !== said.ANSWER) throw new Error(text);
await provider.shutdown();
