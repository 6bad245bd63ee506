// The playground: asks once, or twice with one seed, and shows who had a part in each word. What is
// asked and answered is the gateway's own protocol; `reclaim.routing` events come before the text
// they are about. A runner that tells no shares gives plain words, and totals at the end.

const PUBLIC = "public";
const HUES = 7;
const SENTENCE = /^.*[.!?…](?=\s|$)/s;
const ENDS = {
  stop: ["good", "Ended by itself", ""],
  length: ["neutral", "As long as asked", ""],
  consent_withdrawn: ["stopped", "Withdrawn", "Consent for %s was withdrawn in the middle of this answer. From there on nothing was made with it."],
  licence_ended: ["stopped", "Licence ended", "The licence of %s ended in the middle of this answer. From there on nothing was made with it."],
  lease_lost: ["stopped", "Lease lost", "The runner lost its right to act on policy, so it stopped. Ask again."],
  engine_fault: ["stopped", "Failed", "The runner failed in the middle of this answer. The log knows why."],
  stopped: ["waiting", "Stopped", "You stopped it. What had come until then was counted."],
  lost: ["stopped", "Connection lost", "The connection ended before the answer did."],
};

const form = document.getElementById("playground-form");
const answers = document.getElementById("answers");
const licensedOnly = document.getElementById("licensed-only");
let shown = [];
let underWay = null;

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!underWay && form.reportValidity()) ask();
});
document.getElementById("stop")?.addEventListener("click", () => underWay?.abort());
licensedOnly?.addEventListener("change", () => shown.forEach((answer) => answer.paint()));

async function ask() {
  const fields = new FormData(form);
  const boxes = [...form.querySelectorAll("[data-expert]")];
  const left = boxes.filter((box) => !box.checked && !box.disabled).map((box) => box.dataset.expert);
  const names = boxes.map((box) => box.dataset.expert);
  const without = fields.get("without");
  const others = left.filter((name) => name !== without);
  const asked = without
    ? [[`With ${without}`, others], [`Without ${without}`, [...others, without]]]
    : [["Answer", left]];
  underWay = new AbortController();
  shown = asked.map(([title], place) => new Answer(title, names, place, asked.length === 1));
  answers.replaceChildren(...shown.map((answer) => answer.element));
  wait(true);
  await Promise.all(shown.map((answer, place) => answer.fill(bodyOf(fields, asked[place][1]), fields.get("key"))));
  underWay = null;
  wait(false);
}

function bodyOf(fields, exclude) {
  return {
    model: "reclaim",
    messages: [{ role: "user", content: fields.get("prompt") }],
    metadata: { purpose: fields.get("purpose") },
    experts: { exclude },
    temperature: Number(fields.get("temperature")),
    max_tokens: Number(fields.get("max_tokens")),
    seed: Number(fields.get("seed")),
    stream: true,
    stream_options: { include_usage: true },
  };
}

function wait(isAsking) {
  document.getElementById("ask").disabled = isAsking;
  document.getElementById("stop").disabled = !isAsking;
}

async function* events(response) {
  let kept = "";
  for await (const text of pieces(response.body.pipeThrough(new TextDecoderStream()).getReader())) {
    const parts = (kept + text).split("\n\n");
    kept = parts.pop();
    for (const part of parts) {
      const said = part.replace(/^data: /, "");
      if (said !== "[DONE]") yield JSON.parse(said);
    }
  }
}

async function* pieces(reader) {
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

// The expert with the largest share; "" where nobody's is known.
function leader(shares, isPublicCounted = true) {
  const known = Object.entries(shares).filter(([name]) => isPublicCounted || name !== PUBLIC);
  return known.reduce((best, one) => (one[1] > best[1] ? one : best), ["", 0])[0];
}

// The mean of some tokens' shares: a word may stand for several tokens.
function mean(tokens) {
  const found = {};
  for (const token of tokens) {
    for (const [name, share] of Object.entries(token)) found[name] = (found[name] ?? 0) + share / tokens.length;
  }
  return found;
}

const percent = (share) => `${Math.round(share * 100)} %`;
const inWords = (shares) => Object.entries(shares).sort((one, other) => other[1] - one[1])
  .map(([name, share]) => `${name} ${percent(share)}`).join(", ");

class Answer {
  constructor(title, names, place, isAlone) {
    this.names = names;
    this.isAlone = isAlone;
    this.words = [];
    this.waiting = [];
    this.unsaid = "";
    this.here = -1;
    this.element = document.getElementById("answer-form").content.firstElementChild.cloneNode(true);
    this.find(".answer-title").textContent = title;
    this.find(".answer-title").id = `answer-${place}`;
    this.element.setAttribute("aria-labelledby", `answer-${place}`);
    this.text = this.find(".answer-text");
    this.text.setAttribute("aria-label", `${title}, word by word: arrow keys`);
    this.text.addEventListener("keydown", (event) => this.step(event));
    this.text.addEventListener("pointerover", (event) => {
      const place = this.words.findIndex((word) => word.span === event.target);
      if (place >= 0) this.look(place);
    });
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  async fill(body, key) {
    try {
      const response = await fetch(`${form.action}?key=${encodeURIComponent(key)}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRFToken": form.csrfmiddlewaretoken.value },
        body: JSON.stringify(body),
        signal: underWay.signal,
        redirect: "error",
      });
      if (!response.ok) {
        const told = await response.json().catch(() => ({}));
        return this.refuse(told.error ?? { message: `The server answered ${response.status}. Reload the page and try again.` });
      }
      for await (const event of events(response)) this.take(event);
      if (!this.isEnded) this.end("lost");
    } catch (error) {
      if (error.name !== "AbortError") reportError(error);
      this.end(error.name === "AbortError" ? "stopped" : "lost");
    }
  }

  take(event) {
    if (event.error) return this.refuse(event.error);
    if (event.object === "reclaim.routing") return this.trace(event);
    const [choice] = event.choices ?? [];
    if (choice?.delta?.content) this.add(choice.delta.content);
    if (event.reclaim?.experts_withdrawn && !choice?.finish_reason) this.goOn(event.reclaim.experts_withdrawn);
    else if (event.reclaim && !choice?.finish_reason) this.open(event.reclaim);
    if (choice?.finish_reason) this.close(event.reclaim, choice.finish_reason);
    if (event.usage) this.fact("Tokens", `${event.usage.prompt_tokens} of the prompt, ${event.usage.completion_tokens} of the answer`);
  }

  // What policy said, before the first word.
  open(about) {
    const link = form.dataset.decisions;
    const decision = document.createElement(link ? "a" : "span");
    decision.textContent = about.decision_id;
    if (link) decision.href = `${link}${about.decision_id}/`;
    this.fact("Permitted", ["public", ...about.experts_allowed].join(", "));
    for (const [name, whys] of Object.entries(about.experts_denied)) {
      this.fact(`Without ${name}`, whys.map((why) => `${why.message}.`).join(" "));
    }
    this.fact("Decision", decision);
    this.fact("Policy epoch", String(about.policy_epoch));
  }

  trace({ tokens }) {
    this.waiting.push(...tokens);
  }

  goOn(gone) {
    const sentence = `${gone.join(", ")} was withdrawn. Its licence lets the answer go on, computed again without it; what stands already had it.`;
    this.notice("waiting", "Goes on without an expert", sentence);
    this.say(` ${this.isAlone ? "" : `${this.find(".answer-title").textContent}: `}${sentence}`, true);
  }

  add(text) {
    const span = document.createElement("span");
    span.className = "token";
    span.textContent = text;
    const word = { span, shares: mean(this.waiting), tokens: this.waiting.length };
    this.waiting = [];
    this.words.push(word);
    this.tint(word);
    this.text.append(span);
    if (this.isAlone) this.say(text);
    this.total();
  }

  // Read aloud by sentences: word by word nobody could follow.
  say(text, isLast = false) {
    this.unsaid += text;
    const [whole] = isLast ? [this.unsaid] : this.unsaid.match(SENTENCE) ?? [""];
    if (!whole.trim()) return;
    this.unsaid = this.unsaid.slice(whole.length);
    const line = document.createElement("p");
    line.textContent = whole;
    this.find(".answer-aloud").append(line);
  }

  paint() {
    this.words.forEach((word) => this.tint(word));
    this.total();
  }

  tint({ span, shares }) {
    this.dress(span, leader(shares, !licensedOnly.checked));
  }

  // Hue and pattern of an expert: no two alike before the fiftieth.
  dress(element, name) {
    const place = this.names.indexOf(name);
    if (place < 0) {
      delete element.dataset.hue;
      delete element.dataset.line;
      return;
    }
    element.dataset.hue = String((place % HUES) + 1);
    element.dataset.line = String(((place + Math.floor(place / HUES)) % HUES) + 1);
  }

  total() {
    const told = this.words.filter((word) => word.tokens);
    if (!told.length) return;
    const tokens = told.reduce((sum, word) => sum + word.tokens, 0);
    const sums = {};
    const led = {};
    for (const { shares, tokens: count } of told) {
      const first = leader(shares, !licensedOnly.checked);
      led[first] = (led[first] ?? 0) + count;
      for (const [name, share] of Object.entries(shares)) sums[name] = (sums[name] ?? 0) + (share * count) / tokens;
    }
    this.legend(sums, (name) => `, ${name === PUBLIC ? "plain" : "tinted"} in ${led[name] ?? 0} of ${tokens} tokens`);
  }

  legend(shares, more) {
    this.find(".answer-legend").hidden = false;
    const lines = Object.entries(shares).sort((one, other) => other[1] - one[1]).map(([name, share]) => {
      const line = document.createElement("li");
      const label = document.createElement("span");
      label.className = "legend-name";
      label.textContent = name;
      this.dress(label, name);
      line.append(label, ` ${percent(share)}${more(name)}`);
      return line;
    });
    this.find(".legend").replaceChildren(...lines);
  }

  close(about, finish) {
    const cut = about.ended_by;
    this.end(cut?.reason ?? finish, cut);
    if (!this.words.some((word) => word.tokens)) {
      this.legend(about.experts_used, () => "");
      this.notice("info", "No shares by word", "The runner told none, so the totals alone are shown: prompt and answer together.");
    } else {
      this.fact("As counted, with the prompt", inWords(about.experts_used));
    }
  }

  end(kind, about = {}) {
    this.isEnded = true;
    const [tone, said, sentence] = ENDS[kind] ?? ["stopped", kind, "The answer was cut off."];
    const epoch = about.policy_epoch ? ` Policy epoch ${about.policy_epoch}.` : "";
    if (sentence) this.notice(tone, said, sentence.replace("%s", about.expert || "an expert") + epoch);
    this.state(tone, said);
    const text = this.isAlone ? "" : `${this.find(".answer-title").textContent}: ${this.words.map((word) => word.span.textContent).join("")}`;
    this.say(`${text} ${said}. ${sentence ? sentence.replace("%s", about.expert || "an expert") : ""}`, true);
  }

  refuse(error) {
    this.isEnded = true;
    const denied = Object.entries(error.reclaim?.experts_denied ?? {});
    const reasons = denied.map(([name, whys]) => `${name}: ${whys.map((why) => why.message).join("; ")}.`);
    this.notice("stopped", "Not answered", error.message, reasons);
    this.state("stopped", this.words.length ? "Failed" : "Refused");
    this.say(`Not answered. ${error.message} ${reasons.join(" ")}`, true);
  }

  state(tone, said) {
    const chip = this.find(".chip");
    chip.dataset.tone = tone;
    chip.textContent = said;
    chip.removeAttribute("data-live");
  }

  notice(tone, title, sentence, lines = []) {
    const box = document.createElement("div");
    box.className = "notice";
    box.dataset.tone = tone;
    const text = document.createElement("div");
    text.className = "notice-text";
    const head = document.createElement("p");
    head.className = "notice-title";
    head.textContent = title;
    text.append(head, sentence);
    if (lines.length) {
      const list = document.createElement("ul");
      list.append(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
      text.append(list);
    }
    box.append(text);
    this.find(".answer-notices").append(box);
  }

  fact(label, value) {
    const row = document.createElement("div");
    const [name, said] = [document.createElement("dt"), document.createElement("dd")];
    name.textContent = label;
    said.append(value);
    row.append(name, said);
    this.find(".facts").append(row);
  }

  step(event) {
    const last = this.words.length - 1;
    const to = { ArrowRight: this.here + 1, ArrowDown: this.here + 1, ArrowLeft: this.here - 1, ArrowUp: this.here - 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.look(Math.min(Math.max(to, 0), last));
    document.getElementById("announcer").textContent = this.find(".answer-shares").textContent;
  }

  look(place) {
    this.words[this.here]?.span.removeAttribute("data-here");
    this.here = place;
    const { span, shares } = this.words[place];
    span.setAttribute("data-here", "");
    const said = Object.keys(shares).length ? inWords(shares) : "no shares told";
    this.find(".answer-shares").textContent = `Word ${place + 1} of ${this.words.length}, “${span.textContent.trim()}”: ${said}.`;
  }
}
