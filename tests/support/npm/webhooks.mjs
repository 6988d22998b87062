// The README's handler of webhooks: reads a list of [headers, body] from stdin, and writes for each the
// event's type and data, or the name of the error.
//
//     node webhooks.mjs SECRET < events.json
import { constructWebhookEvent, verifyWebhookSignature } from 'comic';
import { readFileSync } from 'node:fs';

const [secret] = process.argv.slice(2);
const seen = JSON.parse(readFileSync(0, 'utf8')).map(([headers, payload]) => {
  const request = new Request('http://backend.invalid/', { method: 'POST', headers, body: payload });
  const isRight = verifyWebhookSignature(payload, request.headers, secret);
  try {
    const event = constructWebhookEvent(payload, request.headers, secret);
    return [isRight, event.type, event.data, typeof event.id, typeof event.requestId];
  } catch (error) {
    return [isRight, error.constructor.name];
  }
});
console.log(JSON.stringify(seen));
