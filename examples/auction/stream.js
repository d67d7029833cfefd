// A channel with a history: each publication once and in order, and a proof that none is missing.
//
// The SDK asks Postern for missed publications when it subscribes again. The offsets of a channel grow by one, so this class can
// check the result, and count.

export class Stream {
  /**
   * Subscribes. `on.publication(publication, origin)` is called for each publication; `origin` is `history`, `live` or `recovered`.
   * `on.reset()` is called before the publications of the history, `on.recovered(count)` after each interruption, `on.lost()` if more
   * was missed than the history contains, and `on.gap(count)` if publications are missing.
   */
  constructor(client, channel, options, on) {
    this.on = on;
    // The offset of the last publication, or null before the history has been read.
    this.offset = null;
    // Publications that arrive while the history is read.
    this.waiting = null;
    // The number of publications that this recovery has delivered, or null.
    this.recovery = null;
    this.subscription = client.newSubscription(channel, options);
    this.subscription.on('subscribed', (context) => this.#subscribed(context));
    this.subscription.on('publication', (publication) => {
      if (this.waiting) this.waiting.push(publication);
      else this.#add(publication, 'live');
    });
    this.subscription.subscribe();
  }

  #subscribed({ wasRecovering, recovered }) {
    if (this.offset !== null && wasRecovering && recovered) {
      this.recovery = 0;
      // The SDK delivers the recovered publications before it returns.
      queueMicrotask(() => {
        this.on.recovered(this.recovery);
        this.recovery = null;
      });
      return;
    }
    // The first subscription, or more was missed than the history contains.
    if (this.offset !== null) this.on.lost();
    this.#read();
  }

  async #read() {
    const waiting = [];
    this.waiting = waiting;
    let history;
    try {
      history = await this.subscription.history({ limit: 1000 });
    } catch {
      // The connection was lost again: the next subscription reads the history.
      this.offset = null;
      return;
    }
    if (this.waiting !== waiting) return;
    const { publications, offset } = history;
    this.on.reset();
    this.offset = publications.length > 0 ? publications[0].offset - 1 : offset;
    publications.forEach((publication) => this.#add(publication, 'history'));
    this.waiting = null;
    waiting.forEach((publication) => this.#add(publication, 'live'));
  }

  #add(publication, origin) {
    if (publication.offset <= this.offset) return;
    if (publication.offset > this.offset + 1) this.on.gap(publication.offset - this.offset - 1);
    this.offset = publication.offset;
    if (this.recovery !== null) this.recovery += 1;
    this.on.publication(publication, this.recovery === null ? origin : 'recovered');
  }
}
