// Stands between an agent and the server, changes nothing, and keeps what was asked and answered.
import { createServer, request } from "node:http";
import { after } from "node:test";

/** -> { url, exchanges }, those that are over, in the order of their ends. */
export async function recorded(target) {
  const exchanges = [];
  const server = createServer((incoming, outgoing) => {
    const body = [];
    incoming.on("data", (data) => body.push(data));
    incoming.on("end", () => {
      const { method, url, headers } = incoming;
      const to = request(new URL(url, target), { method, headers }, (answer) => {
        const text = [];
        outgoing.writeHead(answer.statusCode, answer.headers);
        answer.on("data", (data) => {
          text.push(data);
          outgoing.write(data);
        });
        answer.on("end", () => {
          outgoing.end();
          exchanges.push(
            new Exchange(url, Buffer.concat(body).toString(), answer.statusCode, Buffer.concat(text).toString()),
          );
        });
      });
      to.on("error", () => outgoing.destroy());
      outgoing.on("close", () => to.destroy()); // a client that leaves takes its request along
      to.end(Buffer.concat(body));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, exchanges };
}

/** A request and its streamed answer, in any of the three dialects. */
class Exchange {
  constructor(path, body, status, answer) {
    Object.assign(this, { path, body, status, answer });
    const lines = answer.split("\n").filter((line) => line.startsWith("data: {"));
    this.events = lines.map((line) => JSON.parse(line.slice("data: ".length)));
  }

  get tools() {
    return this.body.startsWith("{") ? (JSON.parse(this.body).tools ?? []) : [];
  }

  /** The text of the answer. */
  get said() {
    return this.events
      .map(
        (event) =>
          event.choices?.[0]?.delta?.content ??
          (event.type === "response.output_text.delta" ? event.delta : undefined) ??
          (event.delta?.type === "text_delta" ? event.delta.text : undefined) ??
          "",
      )
      .join("");
  }

  /** Tokens of the prompt, and how many of them were read anew; undefined where the answer does not say. */
  get counted() {
    for (const event of this.events.toReversed()) {
      const chat = event.timings;
      if (chat) return { prompt: chat.cache_n + chat.prompt_n, read: chat.prompt_n };
      const responses = event.response?.usage;
      if (responses)
        return {
          prompt: responses.input_tokens,
          read: responses.input_tokens - responses.input_tokens_details.cached_tokens,
        };
      const messages = event.usage ?? event.message?.usage;
      if (messages?.cache_read_input_tokens !== undefined)
        return {
          prompt: messages.input_tokens + messages.cache_read_input_tokens,
          read: messages.input_tokens,
        };
    }
    return undefined;
  }
}
