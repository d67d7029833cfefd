// The page: what the user sees and does. All texts of users are set as text, never as markup.

import { Book, STEP, person } from './book.js';
import { Line, cut } from './line.js';
import * as session from './session.js';
import { Stream } from './stream.js';

const LOT = '42';
const CUT = 10_000;
const REFRESH = 15 * 60_000;

const element = (id) => document.getElementById(id);
const euros = (amount) => `€${amount.toLocaleString('en')}`;
const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

/** Returns a new element with this class, and these children: elements or texts. */
function create(name, className, ...children) {
  const created = document.createElement(name);
  if (className) created.className = className;
  created.append(...children);
  return created;
}

/** Returns the initials of a user, in a colour that depends on the name. */
function face(name) {
  const initials = name.split(' ').slice(0, 2).map((word) => [...word][0] ?? '').join('');
  const hue = [...name].reduce((hash, character) => (hash * 11 + character.codePointAt(0)) % 1009, 0) % 4;
  const created = create('span', `face hue${hue}`, initials);
  created.setAttribute('aria-hidden', 'true');
  return created;
}

// ---------------------------------------------------------------------------------------------------- welcome

function welcome(refusal = '') {
  for (const id of ['room', 'user', 'logout', 'state']) element(id).hidden = true;
  element('welcome').hidden = false;
  element('refusal').textContent = refusal;
  element('refusal').hidden = refusal === '';
}

for (const { email, name } of session.USERS) {
  const texts = create('span', '', create('strong', '', name), create('small', '', email));
  const button = create('button', '', face(name), texts);
  button.type = 'button';
  button.dataset.email = email;
  button.onclick = async () => {
    try {
      await session.logIn(email);
      enter();
    } catch (error) {
      welcome(`The login has failed: ${error.message}.`);
    }
  };
  element('users').append(create('li', '', button));
}

// ------------------------------------------------------------------------------------------------------- room

function enter() {
  const self = session.user();
  element('welcome').hidden = true;
  for (const id of ['room', 'user', 'logout', 'state']) element(id).hidden = false;
  element('user').textContent = self.name;

  const client = new Centrifuge(`${location.origin.replace(/^http/, 'ws')}/connection/websocket`, {
    websocket: Line,
    minReconnectDelay: 200,
    maxReconnectDelay: 3000,
  });
  const refreshing = setInterval(() => session.refresh().catch(() => {}), REFRESH);

  const leave = (refusal) => {
    clearInterval(refreshing);
    session.forget();
    client.disconnect();
    // A fresh page has no state of the user before.
    if (refusal) sessionStorage.setItem('refusal', refusal);
    location.reload();
  };
  watchConnection(client, leave);

  const figures = { received: 0, recovered: 0, missing: 0 };
  const counted = (noun, on) => ({
    ...on,
    publication(publication, origin) {
      if (origin !== 'history') figures.received += 1;
      if (origin === 'recovered') figures.recovered += 1;
      show(figures);
      on.publication(publication, origin);
    },
    recovered(number) {
      tell('good', number === 0 ? `No ${noun} was missed.` : `${count(number, noun)} missed, and recovered in order.`);
    },
    lost() {
      tell('bad', `More ${noun}s were missed than the history contains. It is read again.`);
    },
    gap(missing) {
      figures.missing += missing;
      show(figures);
      tell('bad', `${count(missing, noun)} missing.`);
    },
  });

  const bids = new Stream(client, `auction:${LOT}`, {}, counted('bid', auction(self)));
  const messages = new Stream(client, `room:${LOT}`, { joinLeave: true }, counted('message', conversation(self)));
  present(messages.subscription, self);

  element('bid').onsubmit = (event) => {
    event.preventDefault();
    place(bids.subscription, element('amount').valueAsNumber);
  };
  element('say').onsubmit = async (event) => {
    event.preventDefault();
    const text = element('text').value.trim();
    if (text === '') return;
    if (await publish(messages.subscription, { text })) element('text').value = '';
  };
  // A publication that the server pushes on the personal channel of the user.
  client.on('publication', ({ data }) => {
    if (typeof data?.text === 'string') notify(data.text);
  });
  element('logout').onclick = async () => {
    client.disconnect();
    await session.logOut().catch(() => {});
    leave('');
  };
  client.connect();
}

async function publish(subscription, data) {
  element('message').hidden = true;
  try {
    await subscription.publish(data);
    return true;
  } catch ({ code, message }) {
    element('message').textContent = code === 111 ? 'Too fast: try again in a second.' : `Not sent: ${message}.`;
    element('message').hidden = false;
    return false;
  }
}

function notify(text) {
  const notice = element('notice');
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => { notice.hidden = true; }, 6000);
}

// ------------------------------------------------------------------------------------------------------- bids

let book = new Book();

function place(subscription, amount) {
  if (book.accepts(amount)) {
    publish(subscription, { bid: amount });
    return;
  }
  element('message').textContent = `The next bid is at least ${euros(book.price + STEP)}.`;
  element('message').hidden = false;
}

/** Returns what the page does with bids. */
function auction(self) {
  return {
    reset() {
      book = new Book();
      element('bids').replaceChildren();
      showPrice(self);
    },
    publication(publication, origin) {
      const bid = book.add(publication, origin);
      if (bid === null) return;
      element('bids').querySelector('.highest')?.classList.toggle('highest', bid.isLate);
      element('bids').querySelector('.empty')?.remove();
      element('bids').prepend(row(bid, self));
      element('bid-count').textContent = book.bids.length;
      showPrice(self);
    },
  };
}

function row({ amount, bidder, origin, isLate }, self) {
  const name = create('span', 'name', bidder.id === self.id ? 'You' : bidder.name);
  if (isLate) name.append(' ', create('small', '', 'too low'));
  if (bidder.id === null) name.append(' ', create('span', 'tag', 'backend'));
  if (origin === 'recovered') name.append(' ', create('span', 'tag', 'recovered'));
  const created = create('li', isLate ? 'late' : 'highest', create('span', 'amount', euros(amount)), name);
  created.dataset.bid = amount;
  return created;
}

function showPrice(self) {
  const { highest, price } = book;
  const isOwn = highest !== null && highest.bidder.id === self.id;
  element('price-title').textContent = highest ? 'Highest bid' : 'Starting price';
  if (element('price').textContent !== euros(price)) {
    element('price').textContent = euros(price);
    element('current').classList.remove('changed');
    // Reading the size restarts the animation.
    void element('current').offsetWidth;
    element('current').classList.add('changed');
  }
  element('leader').textContent = highest ? (isOwn ? 'You lead.' : `${highest.bidder.name} leads.`) : 'There is no bid yet.';
  element('leader').classList.toggle('own', isOwn);
  element('amount').min = price + STEP;
  if (!(element('amount').valueAsNumber >= price + STEP)) element('amount').value = price + STEP;
  if (book.bids.length === 0) {
    element('bid-count').textContent = 0;
    element('bids').replaceChildren(create('li', 'empty', 'The first bid is yours.'));
  }
}

for (const button of document.querySelectorAll('#quick button')) {
  button.onclick = () => {
    element('amount').value = book.price + Number(button.dataset.more);
    element('bid').requestSubmit();
  };
}

// ----------------------------------------------------------------------------------------------- conversation

/** Returns what the page does with messages. */
function conversation(self) {
  const list = element('chat');
  return {
    reset() {
      list.replaceChildren(create('p', 'empty', 'Say hello to the other bidders.'));
    },
    publication({ data, info }, origin) {
      if (typeof data?.text !== 'string') return;
      list.querySelector('.empty')?.remove();
      const { id, name } = info ? person(info) : { id: null, name: 'Auction house' };
      const sender = create('span', 'who', id === self.id ? 'You' : name);
      if (origin === 'recovered') sender.append(' ', create('span', 'tag', 'recovered'));
      list.append(create('p', id === self.id ? 'own' : '', sender, data.text.slice(0, 2000)));
      list.scrollTop = list.scrollHeight;
    },
  };
}

// ---------------------------------------------------------------------------------------------------- present

/** Shows the users in the room: the presence once, then joins and leaves. */
function present(room, self) {
  const clients = new Map();
  // Joins and leaves that arrive before the presence.
  let changes = null;
  const apply = ({ isHere, info }) => {
    if (isHere) clients.set(info.client, person(info));
    else clients.delete(info.client);
  };
  const showAll = () => {
    const users = new Map([...clients.values()].map((user) => [user.id, user]));
    const sorted = [...users.values()].sort((one, other) => one.name.localeCompare(other.name));
    element('present-count').textContent = sorted.length;
    element('present').replaceChildren(...sorted.map((user) => {
      const name = create('span', 'name', user.name);
      if (user.id === self.id) name.append(' (you)');
      return create('li', 'person', face(user.name), name);
    }));
  };
  const change = (isHere) => (info) => {
    if (changes) changes.push({ isHere, info: info.info });
    apply({ isHere, info: info.info });
    showAll();
  };
  room.on('join', change(true));
  room.on('leave', change(false));
  room.on('subscribed', async () => {
    changes = [];
    try {
      const { clients: now } = await room.presence();
      clients.clear();
      Object.values(now).forEach((info) => apply({ isHere: true, info }));
      changes.forEach(apply);
      showAll();
    } catch {
      // The connection was lost again: the next subscription asks again.
    }
    changes = null;
  });
}

// ------------------------------------------------------------------------------------------------- connection

function watchConnection(client, leave) {
  let lostAt = null;
  let attempts = 0;
  const showState = (kind, text) => {
    element('state').className = `badge ${kind}`;
    element('state').textContent = text;
    for (const id of ['place', 'send', 'cut']) element(id).disabled = kind !== 'good';
    document.querySelectorAll('#quick button').forEach((button) => { button.disabled = kind !== 'good'; });
  };
  showState('', 'Connecting');
  client.on('connected', () => {
    showState('good', 'Connected');
    if (lostAt === null) tell('good', 'Connected.');
    else tell('good', `Connected again after ${((performance.now() - lostAt) / 1000).toFixed(1)} s, at attempt ${attempts + 1}.`);
    lostAt = null;
    attempts = 0;
  });
  client.on('connecting', ({ code, reason }) => {
    showState('bad', 'Connecting');
    // 0 is the call of `connect`.
    if (code === 0 || lostAt !== null) return;
    lostAt = performance.now();
    tell('bad', `Not connected: ${reason}.`);
  });
  client.on('error', async () => {
    attempts += 1;
    if (attempts % 3 === 0 && await session.isRefused()) leave('The session has ended. Log in again.');
  });
  client.on('disconnected', ({ code, reason }) => {
    // 0 is the call of `disconnect`.
    if (code !== 0) leave(`Postern has ended the connection: ${reason}. Log in again.`);
  });
  element('cut').onclick = async () => {
    tell('bad', `The connection is cut for ${CUT / 1000} seconds.`);
    await cut(CUT);
  };
}

function show(figures) {
  for (const [id, value] of Object.entries(figures)) element(id).textContent = value;
  element('missing').classList.toggle('bad', figures.missing > 0);
}

/** Adds a line to the events of the connection. */
function tell(kind, text) {
  const time = create('time', '', new Date().toLocaleTimeString([], { hour12: false }));
  element('events').append(create('p', '', time, create('span', kind, text)));
  element('events').scrollTop = element('events').scrollHeight;
}

// ------------------------------------------------------------------------------------------------------ start

if (session.token()) enter();
else {
  welcome(sessionStorage.getItem('refusal') ?? '');
  sessionStorage.removeItem('refusal');
}
