"""Sentences for the name tagger, ours: one per line, `|` for a line break, `{placeholder}` for a made-up value."""

_TEMPLATES = """
Hi, my name is {full} and I have a question about my invoice.
hi this is {first}, can you help me log in
Hello {first}, thank you for contacting {org}. How can I help you today?
I spoke to {first} from your team on {day} and nobody called me back.
Dear {prefix} {last},|thank you for your letter of {date}.
Dear {full},|We are pleased to offer you the position of {job} at {org}.
Kind regards,|{full}|{job}|{org}
Best,|{first}
Sincerely,|{full}|{job}, {org}|{address}|Tel: {phone}
Cheers, {first}
-- |{full}|{org}|{phone}|{email}
{full} | {job} | {org} | {phone}
Name: {full}|Date of birth: {date}|Address: {address}|Phone: {phone}
Full name: {full}|Age: {age}|Occupation: {job}|Nationality: {nrp}
First name: {first}|Last name: {last}|City: {city}|Zip: {zip}|Country: {country}
Patient: {full}|DOB: {date}|MRN: {id}|Physician: {prefix} {last}
Customer: {full}|Email: {email}|Phone: {phone}|Card: {card}
Employee: {full}|Department: sales|Start date: {date}|SSN: {ssn}
Ship to:|{full}|{address}
Bill to: {org}, {address}
From: {full}|To: {full}|Date: {date}|Subject: meeting
{full}|{address}
{full}|{building} {street}|{unit}|{city}, {state} {zip}
{full}|{building} {street}, {unit}|{zip} {city}|{country}
{org}|{building} {street}|{city}|{country}|{phone}
{first}: are you coming tonight?|{first}: no, i am still at work
{first}: where do you live now?|{first}: {address}
{first} {last}: Good morning, everyone.|{full}: Good morning!
Attendees: {full}, {full}, {full} and {first}.
Please invite {first}, {first} and {full} to the call on {day}.
The winners are {full} ({country}), {full} ({country}) and {full} ({country}).
{full}, {age}, a {job} from {city}, said the flooding was the worst in years.
{full}, {age}, was arrested in {city} on {day}.
{full} was born in {city}, {country} on {date}.
{full} (born {date}) is a {nrp} {job}.
{last} was born in {year} in {city} and moved to {country} in {year}.
In {year}, {full} founded {org} together with {full}.
{org}, founded in {year} by {full}, is based in {city}.
{org} announced on {day} that {full} will become its new {job}.
{org} has appointed {full} as {job}, effective {date}.
{org} shares fell after {org} cut its forecast.
{org} said it would open an office in {city}.
The {nrp} government and {org} signed an agreement in {city}.
{nrp} officials met {org} representatives in {city} on {date}.
She studied law at {org} before joining {org} as a {job}.
He works as a {job} at {org} in {city}.
I am a {job} and I live in {city}.
I'm a {age} year old {job} from {country}
I am {age} years old and my wife is {age}.
My son {first} is {age} years old and my daughter {first} is {age}.
my daughter {first} just turned {age} last week
A {age}-year-old woman presented with chest pain.
Patient is a {age} y/o {nrp} male with type 2 diabetes, seen by {prefix} {last}.
The patient, {full}, age {age}, was admitted to {org} on {date}.
{prefix} {last} prescribed 20 mg once a day and a follow-up on {date}.
{prefix} {full} will see you on {day} at 10:30.
Ask {prefix} {last} whether the results from {date} are in.
Is {prefix} {last} available on {day}?
Please contact {full} at {phone} or {email}.
Call me at {phone} when you get this.
my number is {phone}, text me
You can reach me on {phone} (home) or {phone} (mobile).
Tel. {phone}, Fax {phone}
phone {phone}
Please update my phone number to {phone}.
The number {phone} keeps calling me, please block it.
WhatsApp: {phone}
Our hotline {phone} is open from {day} to {day}.
I live at {address}.
i live at {address} and need a plumber
My new address is {address}
My old address was {address}, my new one is {address}.
Please deliver the parcel to {address}.
Please send the replacement card to {address} instead.
Can you pick me up at {building} {street}?
We moved from {city} to {building} {street}, {city}.
The office is at {building} {street}, {unit}, {city}.
Our shop on {street} opens on {day}.
The accident happened on {street} near {street}.
Turn left at {street} and walk to {building} {street}.
There is a new cafe on {street} in {city}.
Parking is available on {street}.
The parade goes down {street} until it reaches {street}.
He grew up at {building} {street}.
The store moved to {building} {street} last spring.
The headquarters of {org} are at {address}.
Mail everything to {address}, attention {full}.
Property for sale: {address}. Contact {org}.
What is the best way from {address} to {address}?
Directions to {address} please
The meeting is at {org}, {building} {street}, {city} on {date}.
postal code {zip}
What is the weather like in {zip}?
zip {zip}
I live in {city}, {state} {zip}.
Stores near {zip} please
My postcode is {zip} and I am in {city}.
{city}, {state}
{city} ({country})
I am flying from {city} to {city} on {date}.
book a flight from {city} to {city} for {day}
What time is it in {city}?
We spent two weeks in {country} and three days in {city}.
I was born in {country} but grew up in {city}.
Have you ever been to {place}?
She lives in {place}
The capital of {country} is {city}.
Heavy rain is expected in {place} and {place}.
{city} is a town in {country} with a population of {n}.
Welcome to {city}!
Greetings from {city}
{place} wins the vote to host the next conference
earthquake near {city}, {country}
Protests in {place} continue
The road between {city} and {city} is closed.
The museum in {city} is closed on {day}.
people from {country} are very friendly
The {nrp} team beat the {nrp} team in {city}.
She is {nrp} and he is {nrp}.
I love {nrp} food.
He speaks with a {nrp} accent
The {nrps} won again
most {nrps} disagree
Many {nrps} live in {city}.
Two {nrps} and a {nrp} walk into a bar.
A {nrp} {job} named {full} won the prize in {year}.
My card {card} was stolen, please block it.
Charge it to {card}, expiry 09/27.
card no. {card} cvv 123
Please block card {card} of {full}.
My social security number is {ssn}.
SSN {ssn}
my passport number is {id}
Passport {id} expires on {date}.
Driver license {id} issued in {state}.
My account number is {id} at {org}.
IBAN {id}
tax id {id}
Insurance policy {id}, member {full}
The national identity number is {id}.
Please transfer the money to {full}, account {id}.
license plate {id}
visa number {card} please refund
Please verify: {full}, born {date}, SSN {ssn}, address {address}.
Her date of birth is {date}.
born on {date}
DOB {date}
dob: {date}, name: {full}
The appointment is on {date}.
My appointment was moved from {date} to {date}.
Let's meet on {day}.
See you {day} at {org}
The contract dated {date} between {org} and {org} is void.
This Agreement is made on {date} between {org} ("Company") and {full} ("Consultant").
WITNESS: {full}, {job}
Signed by {full} on {date}
Timestamp {date} user {full} logged in
On {date}, {full} wrote:
As of {date}, {org} employed {n} people.
Since {year} the {org} has awarded a prize each {day}.
The war ended in {year}.
Between {year} and {year} she lived in {country}.
the {year} season was the best for {org}
The Data Protection Act of {year} applies in {country}.
{org} v. {last}, decided in {year}
Copyright {year} {org}
{full} won an award in {year} for the role of {first}.
The film, directed by {full}, stars {full} and {full}.
Starring: {full}, {full}, {full}
Written by {full}
Produced by {full} for {org}
Photo: {full}
Author: {full}
Author: {last}, {first}
by {full}, {org}
{full} (feat. {full})
Listen to {full}'s new album
I love {last}'s early songs
the {last} novel was better than the film
{last}'s performance was stunning.
{first}'s mother called.
{first}'s birthday is on {date}
Did {first} tell you about {first}?
have you seen {first} today
tell {first} i said hi
{first} and {first} are getting married!
{first} called her sister {first}.
My boss {first} is driving me crazy
me and {first} went to {city} with {first}'s dog
Happy birthday {first}!!!
thanks {first}!
Thank you, {first}.
Goodbye {first}, we will miss you
{first}, can you send the report?
hey {first} whats up
Hi {first},|just a quick note about {day}.
I forgot to tell {first}
she is called {first}
They named the baby {first}.
The cat belongs to {first} {last}
The account is in the name of {full}.
under the name {full}
The reservation is under {last}
Book a table for four under {full}
My maiden name is {last}.
my husband's name is {full}
I am writing on behalf of my mother, {full}.
please add my wife {first} as an authorised user
please remove {full} from my account
I am {full}
This is {full} speaking.
who is {full}?
Tell me about {full}.
Who was {full} and what did they do in {year}?
Write a poem about {first}
Write an email to {full} at {org} about the delay.
Summarise the complaint of {full} against {org}.
{full} works for {org}.
{full} used to work at {org} and is now at {org}
i got a job at {org}
I bought it from {org} last week.
{org} refused my refund
Has {org} answered yet?
I have an account with {org}
The {org} website is down
{org}'s customer service is terrible
{org} customer service, {first} speaking
I applied for the {job} role at {org}.
We are looking for a {job} in {city}.
{job} wanted at {org}
{org} is hiring: {job}
Position: {job}|Company: {org}|Location: {city}
Experience: {job} at {org} ({year} - {year})
{job}, {org}, {city}, {year}-{year}
{full} - {job}
{full}, {job} at {org}, will speak on {day}.
Speakers: {full} ({org}), {full} ({org})
After ten years as a {job}, {first} became a {job}.
my dad is a {job}
the {job}, {full}, did not comment
The {job} told {first} to wait.
{full}, the {job}, said the decision was wrong.
The orchestra of {city} was founded in {year} by {full}.
The {city} Marathon takes place on {date}.
The University of {city} rejected me
{org} University is in {city}
The {org} Choir sang in {city}
donate to {org}
{org} and {org} merged in {year}.
{org} acquired {org} for $2.3 billion
{org} (formerly {org})
{org}, {org} and {org} are the largest companies in {country}.
the founders of {org}, {last} and {last}, met in {city}
{last} and {last} argue that prices will rise.
According to {last} ({year}), the effect is small.
{last}, {first} ({year}). A study of cats.
{last} et al. ({year}) found no effect.
Only {last} voted against.
{last} defeated {last} in the final.
Mayor {full} opened the bridge.
President {last} visited {city}.
Senator {full} and Judge {last} disagree
Captain {last} retired in {year}
Uncle {first} is coming on {day}
Saint {first} Church in {city}
{prefix} {last} lives in {city}.
{prefix} {full}
Hello {prefix} {last}, how are you?
yours, {prefix} {last}
Excuse me, is {prefix} {last} in?
{prefix} and {prefix} {last} arrived from {city}.
>{full}|>{org}|>{address}
>> {first} wrote:|>> see you on {day}
* {full}|* {full}|* {full}
1. {full}|2. {full}|3. {full}
- {full} ({org})|- {full} ({org})
{full};{phone};{email};{city}
{full}, {phone}, {address}
{full},{email},{phone}
{"name": "{full}", "city": "{city}", "phone": "{phone}"}
{"first_name": "{first}", "last_name": "{last}", "age": {age}, "zip": "{zip}"}
name,city,age|{full},{city},{age}|{full},{city},{age}
<name>{full}</name><address>{address}</address>
user={first} city={city} company={org}
| {full} | {city} | {age} |
Contact person: {full}, {phone}
Emergency contact: {full} ({phone})
Next of kin: {full}, {address}
Referred by {prefix} {full}, {org}, {city}
Landlord: {full}|Tenant: {full}|Premises: {address}
Invoice {n}|{org}|{address}|Date: {date}
Tracking: your parcel for {full}, {address}, arrives on {day}.
The package was left at {building} {street} on {day}
Your driver {first} is arriving at {street}.
Your ride with {first} on {date} cost $23.40
Meet at {street}, {city}, {day} at 8 pm
My flight {city} - {city} on {day} was cancelled
I need a hotel in {city} from {date} to {date}
Send $50 to {full} please
pay {first} 20 dollars
I sent a transfer to {full} on {date} and it has not arrived.
The payment from {org} on {date} is missing
There is a charge from {org} that I did not make
i was charged twice by {org} on {day}
The {org} card was declined in {city}
I withdrew cash in {city} on {date}
My name changed from {full} to {full} after the wedding on {date}.
ok thanks, {first}
{first} from support told me to send my passport {id}
I'm {first}, {age}, from {city}. Nice to meet you!
{first} here, {age}/f/{city}
{first} ({age}) and {first} ({age}) go to school in {city}.
At age {age}, {full} moved to {country}.
He died at the age of {age} in {city} on {date}.
she's {age} and works for {org}
aged {age}
over {age} years of age? call {phone}
RT {full}: {nrp} minister resigns
BREAKING: {org} confirms talks with {org}
{country} declares state of emergency
{country} v {country} tonight
{place}-based {org} raises $10m
the {place} economy grew by 3 percent in {year}
Travel warning for {country}
Made in {country}
Import from {country} to {country} fell in {year}.
The river flows through {country} and {country}.
Oh {first}, you came back!
"Come here, {first}!" shouted {first}.
"{first}," she said, "where is {last}?"
Where is {first}? - In {city}.
"I can't believe it," said {last}.
No one knew where {first} {last} had gone.
Will {first} forgive {first}?
Mark and {first} met {first} at the mall on {street}.
It's me, {first}!
"""

_QUIET = """
How do I reset my password?
what is the interest rate on a savings account
can you help me with my order
Please cancel my subscription.
I want to cancel order {n}.
my order {n} has not arrived yet
The total is ${n}.99.
The temperature will be {n} degrees tomorrow.
Error {n}: connection refused
The server returned status 404 after {n} ms.
set a timer for {n} minutes
play some jazz music
what's the meaning of life
I would like a {word} {word} please
the {word} is too {word}
how long does the {word} take
Use version 3.{n} of the library.
Chapter {n} explains {word} and {word}.
See section {n}.{n} for details.
There were {n} people and {n} cars.
I need {n} of them by the end of the month
It costs about {n} dollars per month
The room is {n} square feet
turn up the volume to {n}
why was my payment declined
how do i activate my new card
My card has not arrived, what should I do?
Is there a fee for using an ATM abroad?
I was charged twice for the same thing
The exchange rate you applied is wrong
How can I top up by bank transfer?
Can I get a virtual card?
what is my pin
I forgot my passcode
Where can I find the routing number of my bank?
How do I verify my identity?
Thanks, that was all I needed.
Good morning! How are you?
No, thank you. Have a nice day.
Yes, please go ahead.
Sure, I can do that.
OK. Anything else?
What would you like to do next?
Please hold while I check.
I'm sorry to hear that.
Let me know if you have any questions.
Is there anything else I can help you with?
That's great news!
Sounds good to me
lol that is so funny
omg i cant believe it
idk what to do anymore
WHY IS THIS NOT WORKING
HELP ME PLEASE
I WANT MY MONEY BACK NOW
Please Read The Terms And Conditions Carefully
Frequently Asked Questions
Getting Started With The Basics
How To Bake A Cake In Ten Easy Steps
Quick Start
Table Of Contents
Introduction|Methods|Results|Discussion
Step 1: open the {word}. Step 2: close the {word}.
1. {word}|2. {word}|3. {word}
- {word} the {word}|- {word} and {word}
Ingredients: {n} g flour, 2 eggs, {n} ml milk
Mix the flour and the sugar, then bake for {n} minutes.
The recipe needs two cups of rice.
def {word}(x): return x + {n}
for i in range({n}): print(i)
SELECT {word} FROM {word} WHERE id = {n}
git commit -m "{word} {word}"
x = {n} * {n}
The answer is {n}.
{n} plus {n} equals what
Roll {n} dice
convert {n} kilometers to miles
how many calories are in an apple
what should i cook for dinner
tell me a joke about cats
flip a coin
is it going to rain today
remind me to buy milk
what's on my to do list
schedule a meeting for tomorrow at {n}
how much did i spend last month
Freedom and Justice are written with capitals here.
Words like Hope, Grace and Faith can be abstract nouns.
May I ask why? Will it work? Mark it as done.
The bill is due. The rose is red. Pat the dog.
Summer is warm, Winter is cold.
Dear Sir or Madam,
Dear Customer,
To whom it may concern
Hi there,
Hello everyone
Kind regards,|The Support Team
I am not happy with this.
As an AI language model, I cannot do that.
I don't have access to personal data.
The Model answers questions. The User asks them.
The Company shall not be liable. The Tenant shall pay the Rent.
The Borrower shall repay the Loan to the Lender.
Table {n}: results of the {word} experiment
p < 0.05, n = {n}
Call the function again if the {word} fails.
click the button to {word}
The {word} of the {word} was {word}.
it is a {word} day for {word} and {word}
did you see the {word} last night
I've been waiting for {n} minutes
my flight was delayed by {n} hours
can you book a table for {n} people
Are you a real person?
talk to an agent
what is your name
who made you
where do you live
how old are you
what are your hobbies
speak to a human please
translate hello to another language
what's the weather like outside
i need a new phone
my phone is broken
my address is wrong, how do I change it?
I want to update my address
what is my zip code
Please enter your name and address.
Your name is required.
The phone number field is empty.
Date of birth is missing
Enter your ZIP code
How do I change the age on my profile?
The street was empty.
I walked down the street to the avenue.
The doctor said I should rest.
my manager is a nice person
The teacher asked the students a question.
the engineer fixed the road
our president and our director agreed
the company hired a new nurse
the bank closed my account
The police officer was kind.
the university library closes early
"""

TEMPLATES = tuple(line.replace("|", "\n") for line in _TEMPLATES.strip().splitlines())
QUIET = tuple(line.replace("|", "\n") for line in _QUIET.strip().splitlines())

NATIONALITIES = (
    "American British English Scottish Welsh Irish Canadian Australian Mexican Brazilian Argentine Argentinian Chilean"
    " Peruvian Colombian Venezuelan Bolivian Cuban Jamaican Haitian Dominican French German Spanish Portuguese Italian"
    " Dutch Belgian Swiss Austrian Danish Swedish Norwegian Finnish Icelandic Polish Czech Slovak Hungarian Romanian"
    " Bulgarian Serbian Croatian Slovenian Bosnian Albanian Greek Turkish Russian Ukrainian Belarusian Estonian Latvian"
    " Lithuanian Georgian Armenian Azerbaijani Kazakh Uzbek Turkmen Afghan Pakistani Indian Bangladeshi Nepalese"
    " Nepali Chinese Japanese Korean Vietnamese Thai Cambodian Laotian Malaysian Indonesian Filipino Singaporean"
    " Taiwanese Mongolian Tibetan Iranian Iraqi Syrian Lebanese Israeli Palestinian Jordanian Saudi Yemeni Omani"
    " Kuwaiti Qatari Emirati Egyptian Libyan Tunisian Algerian Moroccan Sudanese Ethiopian Eritrean Somali Kenyan"
    " Ugandan Tanzanian Rwandan Congolese Angolan Zambian Zimbabwean Mozambican Malagasy Namibian Botswanan Nigerian"
    " Ghanaian Ivorian Senegalese Malian Cameroonian Liberian Gambian Fijian Samoan Tongan Maltese Cypriot Luxembourgish"
    " Moldovan Macedonian Montenegrin Kosovar Kyrgyz Tajik Bhutanese Burmese Bruneian Surinamese Guyanese Ecuadorian"
    " Paraguayan Uruguayan Panamanian Honduran Guatemalan Nicaraguan Salvadoran European Asian African Arab Jewish"
    " Muslim Christian Catholic Protestant Buddhist Hindu Sikh Sunni Shia Mormon Baptist Orthodox Hispanic Latino Kurdish"
    " Basque Catalan Flemish Roma Hutu Tutsi Republican Democrat Communist Socialist"
).split()
