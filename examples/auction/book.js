// The bids of a lot. All pages get the bids in the same order, so all of them find the same highest bid.
//
// This is enough for a demonstration. A real auction has a backend that accepts bids, by the option `publish_hook` of the channel,
// or that publishes them itself.

export const START = 100;
export const STEP = 10;
const HIGHEST = 1_000_000;

export class Book {
  constructor() {
    this.bids = [];
    this.highest = null;
  }

  /** The current price. */
  get price() {
    return this.highest?.amount ?? START;
  }

  /** Returns whether a bid is high enough. */
  accepts(amount) {
    return Number.isSafeInteger(amount) && amount >= this.price + STEP && amount <= HIGHEST;
  }

  /** Adds a publication, and returns its entry, or null if it is not a bid: users can publish any JSON. */
  add({ data, info, offset }, origin) {
    if (!Number.isSafeInteger(data?.bid)) return null;
    const bid = { amount: data.bid, bidder: bidder(data, info), offset, origin, isLate: !this.accepts(data.bid) };
    this.bids.push(bid);
    if (!bid.isLate) this.highest = bid;
    return bid;
  }
}

/** The publications of users have `info`, which the gateway has vouched for. Those of backends have none. */
function bidder(data, info) {
  if (info) return person(info);
  return { id: null, name: typeof data.by === 'string' ? data.by.slice(0, 100) : 'Auction house' };
}

/** Returns the id and the name of a client. */
export function person({ user, connInfo }) {
  return { id: user, name: typeof connInfo?.name === 'string' ? connInfo.name : user };
}
