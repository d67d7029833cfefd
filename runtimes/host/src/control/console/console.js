// The console. All texts of users are inserted as text, never as markup.
'use strict';

const PERIOD = 2000;
const SAMPLES = 120;
const PAGE = 100;
const find = (id) => document.getElementById(id);

// --- Elements ---

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function button(text, action, attributes = {}) {
  const made = element('button', text, { type: 'button', ...attributes });
  made.addEventListener('click', () => guard(action));
  return made;
}

// Shows an error, or the outcome of an action.
function show(text, isGood = false) {
  const message = find('message');
  message.textContent = text;
  message.classList.toggle('good', isGood);
  message.hidden = !text;
}

// Runs an action, and shows its error.
async function guard(action) {
  show('');
  try {
    await action();
  } catch (error) {
    show(error.message);
  }
}

function facts(list, entries) {
  list.replaceChildren(...entries.flatMap(([name, value]) => [element('dt', name), element('dd', value)]));
}

// Asks whether to go on.
function confirmed(title, text, yes) {
  const dialog = find('confirm');
  find('confirm-title').textContent = title;
  find('confirm-text').textContent = text;
  find('confirm-yes').textContent = yes;
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      // The event of the question before may arrive when the dialog is open again.
      if (!dialog.open) resolve(dialog.returnValue === 'yes');
    };
  });
}

function details(title, body, actions) {
  find('details-title').textContent = title;
  find('details-body').replaceChildren(...body);
  find('details-actions').replaceChildren(...actions);
  const dialog = find('details');
  if (!dialog.open) dialog.showModal();
}

// --- Numbers ---

function count(value) {
  return Number.isInteger(value) || value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1);
}

function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const percent = (value) => `${value.toFixed(1)} %`;

// --- The server ---

// The key stays in this tab, and is sent in a header only.
const KEY = 'postern-key';
const key = () => sessionStorage.getItem(KEY);

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers['X-API-Key'] = key();
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: 'no-store', credentials: 'omit', referrerPolicy: 'no-referrer' });
  } catch {
    throw new Error('Postern does not answer.');
  }
  return response;
}

// Performs a method of the server API.
async function call(method, params = {}) {
  if (!key()) throw new Error('Enter one of the keys in POSTERN_API_KEY first.');
  const response = await request(`api/${method}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: typeof params === 'string' ? params : JSON.stringify(params),
  });
  const answer = await response.json();
  if (answer.error) throw new Error(answer.error.message);
  return answer.result;
}

// Returns the samples of a text in the format of Prometheus: the sum of each name.
function parse(text) {
  const sums = new Map();
  for (const line of text.split('\n')) {
    const match = /^([a-z_]+)(?:\{.*\})? ([0-9.e+-]+)$/i.exec(line);
    if (match) sums.set(match[1], (sums.get(match[1]) ?? 0) + Number(match[2]));
  }
  return sums;
}

// --- Figures ---

const gauge = (name) => (now) => now.get(name) ?? 0;
const rate = (name, scale = 1) => (now, last, seconds) =>
  last && seconds > 0 ? Math.max(0, ((now.get(name) ?? 0) - (last.get(name) ?? 0)) / seconds) * scale : 0;

const FIGURES = [
  { title: 'Connections', value: gauge('postern_connections'), format: count, of: 'postern_connections_max' },
  { title: 'Users', value: gauge('postern_users'), format: count },
  { title: 'Messages received per second', value: rate('postern_messages_received_total'), format: count },
  { title: 'Messages sent per second', value: rate('postern_messages_sent_total'), format: count },
  { title: 'Publications per second', value: rate('postern_publications_total'), format: count },
  { title: 'Deliveries per second', value: rate('postern_deliveries_total'), format: count },
  { title: 'Subscriptions', value: gauge('postern_subscriptions'), format: count },
  { title: 'Channels with subscribers', value: gauge('postern_channels'), format: count },
  { title: 'Pending output', value: gauge('postern_send_queue_bytes'), format: bytes },
  { title: 'Memory for messages', value: gauge('postern_memory_held_bytes'), format: bytes, of: 'postern_memory_max_bytes' },
  { title: 'Resident memory', value: gauge('process_resident_memory_bytes'), format: bytes },
  { title: 'Processor time', value: rate('process_cpu_seconds_total', 100), format: percent },
  { title: 'Histories', value: gauge('postern_history_bytes'), format: bytes },
  { title: 'Upgrades refused per second', value: rate('postern_handshakes_rejected_total'), format: count },
  { title: 'Slow consumers closed', value: gauge('postern_slow_consumer_closes_total'), format: count },
  { title: 'Log records dropped', value: gauge('postern_log_records_dropped_total'), format: count, isAlert: true },
];

for (const figure of FIGURES) {
  figure.samples = [];
  figure.card = element('li');
  figure.text = element('p', '–');
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'chart');
  svg.setAttribute('viewBox', `0 0 ${SAMPLES - 1} 30`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  figure.line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  svg.append(figure.line);
  figure.card.append(element('h3', figure.title), figure.text, svg);
  find('cards').append(figure.card);
}

let last = null;
let lastAt = 0;

function draw(now) {
  const at = performance.now();
  const seconds = (at - lastAt) / 1000;
  for (const figure of FIGURES) {
    const value = figure.value(now, last, seconds);
    figure.samples.push(value);
    if (figure.samples.length > SAMPLES) figure.samples.shift();
    figure.text.textContent = figure.format(value);
    if (figure.of) figure.text.append(' ', element('small', `of ${figure.format(now.get(figure.of) ?? 0)}`));
    figure.card.classList.toggle('alert', Boolean(figure.isAlert) && value > 0);
    const most = Math.max(...figure.samples, 1e-9);
    const start = SAMPLES - figure.samples.length;
    const points = figure.samples.map((sample, index) => `${start + index} ${(29 - (sample / most) * 28).toFixed(1)}`);
    figure.line.setAttribute('d', `M${points.join('L')}`);
  }
  last = now;
  lastAt = at;
}

function state(text, kind) {
  const badge = find('state');
  if (badge.textContent !== text) badge.textContent = text;
  badge.className = `badge ${kind}`;
}

async function poll() {
  try {
    const [metrics, ready] = await Promise.all([request('metrics'), request('readyz')]);
    const { status, reasons = [] } = await ready.json();
    if (status === 'ready') state('ready', 'good');
    else state(`not ready: ${reasons.join(', ')}`, 'bad');
    if (metrics.ok) draw(parse(await metrics.text()));
  } catch (error) {
    state('no answer', 'bad');
  }
  setTimeout(poll, PERIOD);
}

// --- Connections ---

let after = 0;

async function listConnections(from = 0) {
  const form = new FormData(find('find-connections'));
  const params = { limit: PAGE, after: from };
  const value = form.get('value').trim();
  if (value) params[form.get('by')] = form.get('by') === 'connection' ? Number(value) : value;
  const { connections, next } = await call('connections', params);
  after = next ?? 0;
  find('next-connections').hidden = next === null;
  find('connection-count').textContent =
    connections.length === 1 ? '1 connection' : `${connections.length} connections${next === null ? '' : ', and more'}`;
  const rows = connections.map((connection) => {
    const row = element('tr');
    const first = element('td');
    first.append(button(connection.connection, () => showConnection(connection), { 'aria-label': `Details of connection ${connection.connection}` }));
    const conditions = [connection.closing && 'closing', connection.paused && 'paused'].filter(Boolean);
    row.append(
      first,
      element('td', connection.user),
      element('td', connection.name ?? ''),
      element('td', connection.client ?? connection.peer),
      element('td', new Date(connection.opened_at).toLocaleString()),
      element('td', count(connection.messages_received), { class: 'number' }),
      element('td', count(connection.messages_sent), { class: 'number' }),
      element('td', bytes(connection.send_queue_bytes), { class: 'number' }),
      element('td', conditions.join(', ') || 'open'),
    );
    return row;
  });
  find('connection-table').tBodies[0].replaceChildren(...rows);
}

function showConnection(connection) {
  const list = element('dl');
  const first = ['user', 'name', 'email', 'session', 'token_expires_at', 'client', 'peer', 'opened_at', 'last_seen_at'];
  const names = [...new Set([...first, ...Object.keys(connection)])];
  facts(list, names.map((name) => [name, connection[name]]).filter(([, value]) => value !== null && value !== undefined));
  const disconnect = async (target, text) => {
    find('details').close();
    if (!(await confirmed('Disconnect?', text, 'Disconnect'))) return;
    const { disconnected } = await call('disconnect', target);
    await listConnections();
    show(disconnected === 1 ? '1 connection is closed.' : `${disconnected} connections are closed.`, true);
  };
  details(`Connection ${connection.connection}`, [list], [
    button('Disconnect…', () => disconnect({ connection: connection.connection }, `Connection ${connection.connection} of user ${connection.user} is closed.`), { class: 'danger' }),
    ' ',
    button('Disconnect the user…', () => disconnect({ user: connection.user }, `All connections of user ${connection.user} are closed.`), { class: 'danger' }),
  ]);
}

// --- Channels ---

async function listChannels() {
  const pattern = new FormData(find('find-channels')).get('pattern').trim();
  const { channels } = await call('channels', { pattern });
  const names = Object.keys(channels).sort();
  const rows = names.slice(0, 1000).map((name) => {
    const [row, first] = [element('tr'), element('td')];
    first.append(button(name, () => showChannel(name), { 'aria-label': `Details of channel ${name}` }));
    row.append(first, element('td', count(channels[name].num_clients ?? 0), { class: 'number' }));
    return row;
  });
  find('channel-table').tBodies[0].replaceChildren(...rows);
  const shown = names.length > rows.length ? `, the first ${rows.length} are shown` : '';
  find('channel-count').textContent = names.length === 1 ? '1 channel' : `${names.length} channels${shown}`;
}

// Returns the result of a method, or the text of its error.
async function attempt(method, params) {
  try {
    return [await call(method, params), null];
  } catch (error) {
    return [null, error.message];
  }
}

async function showChannel(channel) {
  const [[presence, noPresence], [history, noHistory]] = await Promise.all([
    attempt('presence', { channel }),
    attempt('history', { channel, limit: 20, reverse: true }),
  ]);
  const body = [element('h3', 'Present clients')];
  const clients = Object.values(presence?.presence ?? {});
  if (noPresence) body.push(element('p', noPresence, { class: 'note' }));
  else if (clients.length === 0) body.push(element('p', 'none', { class: 'note' }));
  else {
    const list = element('dl');
    facts(list, clients.slice(0, 200).map((client) => [client.user, JSON.stringify(client.conn_info ?? client.client)]));
    body.push(list);
  }
  body.push(element('h3', 'History, newest first'));
  const publications = history?.publications ?? [];
  if (noHistory) body.push(element('p', noHistory, { class: 'note' }));
  else if (publications.length === 0) body.push(element('p', 'empty', { class: 'note' }));
  else {
    const list = element('dl');
    facts(list, publications.map(({ offset, data, info }) => [`${offset}${info?.user ? ` by ${info.user}` : ''}`, JSON.stringify(data)]));
    body.push(list);
  }
  details(`Channel ${channel}`, body, [
    button('Publish to it', () => {
      find('details').close();
      find('publish').elements.channel.value = channel;
      find('publish').elements.data.focus();
    }),
  ]);
}

async function publish() {
  const form = new FormData(find('publish'));
  const data = form.get('data');
  try {
    JSON.parse(data);
  } catch (error) {
    throw new Error(`The data is not JSON: ${error.message}`);
  }
  // The text is sent as it was written, because numbers may have more digits than JavaScript keeps.
  const { delivered, offset } = await call('publish', `{"channel":${JSON.stringify(form.get('channel'))},"data":${data}}`);
  show(`Published to ${delivered === 1 ? '1 subscription' : `${delivered} subscriptions`}${offset ? `, at offset ${offset}` : ''}.`, true);
}

// --- Process ---

async function showProcess() {
  if (!key()) throw new Error('Enter one of the keys in POSTERN_API_KEY first.');
  const response = await request('api/info');
  const info = await response.json();
  if (info.error) throw new Error(info.error.message);
  facts(find('process-facts'), [
    ['Program', `${info.program} ${info.version}`],
    ['Process', info.pid],
    ['Started', new Date(info.started_at).toLocaleString()],
    ['Addresses for users', info.listen.join(', ')],
    ['Workers', info.workers],
    ['Connections', `${count(info.connections)} of ${count(info.max_connections)}`],
    ['Draining', info.draining ? 'yes' : 'no'],
  ]);
  const rows = Object.entries(info.settings).map(([name, value]) => {
    const row = element('tr');
    row.append(element('td', name), element('td', value));
    return row;
  });
  find('settings-table').tBodies[0].replaceChildren(...rows);
}

async function drain() {
  const text = 'This instance closes all its connections and ends. This cannot be undone.';
  if (!(await confirmed('Drain this instance?', text, 'Drain'))) return;
  await call('drain');
  show('The drain has begun.', true);
}

// --- Views ---

const VIEWS = { figures: null, connections: listConnections, channels: listChannels, process: showProcess };

function openView() {
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : 'figures';
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== `${name}-view`;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  show('');
  if (VIEWS[name]) guard(() => VIEWS[name]());
}

async function describe() {
  if (!key()) return;
  const response = await request('api/info');
  const info = await response.json();
  if (info.error) {
    forget();
    throw new Error(info.error.message);
  }
  find('about').textContent = `${info.program} ${info.version}, process ${info.pid}`;
}

function showKey() {
  find('forget').hidden = !key();
  find('key').placeholder = key() ? 'in use' : '';
}

function forget() {
  sessionStorage.removeItem(KEY);
  find('about').textContent = '';
  showKey();
}

function onSubmit(id, action) {
  find(id).addEventListener('submit', (event) => {
    event.preventDefault();
    guard(action);
  });
}

onSubmit('key-form', async () => {
  sessionStorage.setItem(KEY, find('key').value.trim());
  find('key').value = '';
  showKey();
  await describe();
  openView();
});
onSubmit('find-connections', () => listConnections());
onSubmit('find-channels', listChannels);
onSubmit('publish', publish);
find('forget').addEventListener('click', () => {
  forget();
  location.reload();
});
find('next-connections').addEventListener('click', () => guard(() => listConnections(after)));
find('drain').addEventListener('click', () => guard(drain));
find('details-close').addEventListener('click', () => find('details').close());
addEventListener('hashchange', openView);

showKey();
openView();
guard(describe);
poll();
