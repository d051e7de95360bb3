-- The skills that ship with the kernel. read_result is every agent's whose results may be long, without being named. rag_search and memory_recall touch untrusted content when what
-- they find is such: a collection says so, and a memory that was written after such content was read.
insert into aos_skills.builtin_skill (name, runner, effect, risk, touches, description,
                                      input_schema) values
('sql_query', 'kernel', 'read', 'low', '{sensitive}',
 'Run one SQL statement that only reads (select, with, values, table) and get its rows.',
 '{"type": "object", "required": ["query"], "additionalProperties": false, "properties": {
   "query": {"type": "string", "description": "one SELECT, WITH, VALUES or TABLE statement"}}}'),
('sql_execute', 'kernel', 'transactional', 'high', '{sensitive,change}',
 'Run one SQL statement that changes rows (insert, update, delete, merge). A person approves it first.',
 '{"type": "object", "required": ["statement"], "additionalProperties": false, "properties": {
   "statement": {"type": "string", "description": "one INSERT, UPDATE, DELETE or MERGE statement"}}}'),
('rag_search', 'kernel', 'read', 'low', '{}',
 'Search the agent''s document collections and get the best passages with their sources.',
 '{"type": "object", "required": ["query"], "additionalProperties": false, "properties": {
   "query": {"type": "string", "description": "what to look for, in plain words"},
   "limit": {"type": "integer", "description": "how many passages, 1 to 20; 5 when absent"}}}'),
('memory_store', 'kernel', 'transactional', 'low', '{}',
 'Remember a value under a key for later conversations with this agent.',
 '{"type": "object", "required": ["key", "value"], "additionalProperties": false, "properties": {
   "key": {"type": "string", "description": "a short name"},
   "value": {"description": "any JSON value"},
   "scope": {"type": "string", "enum": ["agent", "person", "run"], "description": "who is to find it again: this agent in any conversation (agent, the default), only with this person, or only in this conversation"},
   "type": {"type": "string", "enum": ["fact", "preference", "episode", "instruction"], "description": "fact when absent"},
   "importance": {"type": "number", "minimum": 0, "maximum": 1, "description": "0 to 1; 0.5 when absent"},
   "expires": {"type": "string", "description": "when to forget it: 30d, 12h, or a date such as 2030-12-31"}}}'),
('memory_recall', 'kernel', 'read', 'low', '{}',
 'Recall what was remembered: one key, or all entries whose key or value contains a text.',
 '{"type": "object", "additionalProperties": false, "properties": {
   "key": {"type": "string", "description": "the exact key"},
   "query": {"type": "string", "description": "a text to look for; all entries when both are absent"},
   "scope": {"type": "string", "enum": ["agent", "person", "run"], "description": "only what was remembered for that; everything when absent"},
   "type": {"type": "string", "enum": ["fact", "preference", "episode", "instruction"]}}}'),
('memory_search', 'kernel', 'read', 'low', '{}',
 'Search what was remembered for a question in plain words, the best matches first.',
 '{"type": "object", "required": ["query"], "additionalProperties": false, "properties": {
   "query": {"type": "string", "description": "what to look for, in plain words"},
   "limit": {"type": "integer", "description": "how many entries, 1 to 50; 10 when absent"},
   "scope": {"type": "string", "enum": ["agent", "person", "run"], "description": "only what was remembered for that; everything when absent"},
   "type": {"type": "string", "enum": ["fact", "preference", "episode", "instruction"]}}}'),
('describe_schema', 'kernel', 'read', 'low', '{}',
 'See which tables and views SQL reaches here: columns, types, keys, comments, and what may be done.',
 '{"type": "object", "additionalProperties": false, "properties": {
   "schema": {"type": "string", "description": "only this schema"},
   "table": {"type": "string", "description": "only this table, without its schema"}}}'),
('read_result', 'kernel', 'read', 'low', '{}',
 'Read on in a long result of which only a part was shown.',
 '{"type": "object", "required": ["call"], "additionalProperties": false, "properties": {
   "call": {"type": "string", "description": "the call, as the part names it"},
   "from": {"type": "integer", "minimum": 0, "description": "after how many characters to go on"}}}'),
('web_search', 'worker', 'read', 'low', '{untrusted}',
 'Search the web and get titles, addresses and excerpts.',
 '{"type": "object", "required": ["query"], "additionalProperties": false, "properties": {
   "query": {"type": "string", "description": "what to search for"}}}'),
-- Not low: what an agent fetches can carry out what it knows, so none has it unless it is given.
('web_fetch', 'worker', 'read', 'medium', '{untrusted,egress}',
 'Read a web page: its title and its text as Markdown. A long one comes in parts.',
 '{"type": "object", "required": ["url"], "additionalProperties": false, "properties": {
   "url": {"type": "string", "description": "the address, beginning with https://"},
   "start": {"type": "integer", "description": "where to read on: next_start of the part before"}}}'),
('http_request', 'worker', 'unsafe', 'high', '{untrusted,change,egress}',
 'Send an HTTP request to one of the hosts that this skill allows. A person approves it first.',
 '{"type": "object", "required": ["method", "url"], "additionalProperties": false, "properties": {
   "method": {"type": "string", "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]},
   "url": {"type": "string", "description": "the address, query included"},
   "headers": {"type": "object", "description": "headers by name; the skill adds its own"},
   "body": {"description": "a text, or any JSON value"}}}'),
('now', 'worker', 'read', 'low', '{}',
 'Tell the date, the time and the day of the week.',
 '{"type": "object", "additionalProperties": false, "properties": {
   "timezone": {"type": "string", "description": "such as Europe/Berlin; UTC when absent"}}}');
